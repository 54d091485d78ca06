// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_CLIENT_WATCH_H
#define EXAMPLES_CLIENT_WATCH_H

#include <httplib.h>

namespace example {

// Detects that the client of a request is gone, even while the server writes nothing. Valid until the answer is
// complete.
class ClientWatch {
 public:
  explicit ClientWatch(const httplib::Request& http);

  // Whether the client has closed its side of the connection.
  bool gone() const;

 private:
  int socket_ = -1;
};

}  // namespace example

#endif  // EXAMPLES_CLIENT_WATCH_H
