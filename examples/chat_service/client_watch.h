// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_CLIENT_WATCH_H
#define EXAMPLES_CLIENT_WATCH_H

#include <httplib.h>

namespace example {

// Sees whether the client of a request is still there, while nothing is written to it. Valid until its answer is
// complete.
class ClientWatch {
 public:
  explicit ClientWatch(const httplib::Request& http);

  // Whether it has hung up, or closed its side of the connection.
  bool gone() const;

 private:
  int socket_ = -1;
};

}  // namespace example

#endif  // EXAMPLES_CLIENT_WATCH_H
