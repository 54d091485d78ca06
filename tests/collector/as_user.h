// SPDX-License-Identifier: Apache-2.0
// Makes what another user would make. Needs root.
#pragma once

#include <sys/fsuid.h>

namespace nopspan::collector {

// The files and sockets that this thread makes meanwhile belong to this user.
class AsUser {
 public:
  explicit AsUser(unsigned user) : before_(static_cast<unsigned>(setfsuid(user))) {}
  AsUser(const AsUser&) = delete;
  AsUser& operator=(const AsUser&) = delete;
  ~AsUser() { setfsuid(before_); }

 private:
  const unsigned before_;
};

}  // namespace nopspan::collector
