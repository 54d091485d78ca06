// SPDX-License-Identifier: Apache-2.0
#include "serve/page_access.h"

#include "base/failure.h"
#include "base/text.h"
#include "serve/listen_address.h"
#include "serve/peer_user.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <fstream>
#include <optional>

namespace nopspan::collector {
namespace {

std::string random_token() {
  constexpr std::size_t kBytes = 16;
  std::string bytes(kBytes, '\0');
  if (getentropy(bytes.data(), bytes.size()) != 0) {
    throw Failure("cannot make a token for the page: no random numbers: " + errno_text(errno));
  }
  return hex_text(bytes);
}

uid_t overflow_uid() {
  constexpr uid_t kUsual = 65534;
  uid_t read = 0;
  return std::ifstream("/proc/sys/kernel/overflowuid") >> read ? read : kUsual;
}

}  // namespace

PageAccess::PageAccess() : token_(random_token()), overflow_(overflow_uid()) {}

// Looks at each byte, because the time must not say how many of the first ones are right.
bool PageAccess::is_token(std::string_view text) const {
  if (text.size() != token_.size()) return false;
  unsigned difference = 0;
  for (std::size_t i = 0; i < text.size(); ++i) difference |= static_cast<unsigned char>(text[i] ^ token_[i]);
  return difference == 0;
}

std::string PageAccess::why_token(int connection) const {
  if (!is_loopback(local_address(connection))) return "the connection does not begin on this host, at localhost";
  const std::optional<uid_t> user = peer_user(connection);
  if (!user) return "the kernel does not report the user of the connection";
  return needs_no_token(*user, geteuid(), overflow_) ? "" : "the connection is one of user " + std::to_string(*user);
}

bool is_of_proxy(std::string_view header) {
  std::string name(header);
  for (char& c : name) c = lower_case(c);
  constexpr std::array kNames = {"forwarded", "via", "cdn-loop"};
  constexpr std::array kBegins = {"x-forwarded", "x-original", "x-envoy", "x-proxy", "cf-"};
  constexpr std::array kEnds = {"-ip", "clientip"};  // X-Real-IP, True-Client-IP, X-Azure-ClientIP
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end() ||
         std::any_of(kBegins.begin(), kBegins.end(), [&](const char* begin) { return name.starts_with(begin); }) ||
         std::any_of(kEnds.begin(), kEnds.end(), [&](const char* end) { return name.ends_with(end); });
}

}  // namespace nopspan::collector
