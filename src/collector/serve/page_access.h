// SPDX-License-Identifier: Apache-2.0
// Decides whether a client may read the page of requests, which has what users asked for. Root and the user of this
// program may, if they connect on this host, and so may everybody who has the token that the program prints.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

namespace nopspan::collector {

class PageAccess {
 public:
  // Makes a token that nobody can guess. Throws Failure if the kernel has no random numbers.
  PageAccess();

  [[nodiscard]] const std::string& token() const { return token_; }
  [[nodiscard]] bool is_token(std::string_view text) const;
  // Why the client at the other end of this connection needs the token: "the connection is one of user 1000". Empty if
  // it needs none.
  [[nodiscard]] std::string why_token(int connection) const;

  // Whether this user needs no token. A user that this user namespace does not know has the uid `overflow`. All such
  // users have it, so it identifies none of them.
  static bool needs_no_token(uid_t user, uid_t own, uid_t overflow) {
    return user == 0 || (user == own && user != overflow);
  }

 private:
  const std::string token_;
  const uid_t overflow_;
};

// Whether a header with this name says that a proxy has forwarded the request.
bool is_of_proxy(std::string_view header);

}  // namespace nopspan::collector
