// SPDX-License-Identifier: Apache-2.0
// Prints "ready", waits for the end of its input, and runs one request: PROGRAM REQUEST_ID.

#include <unistd.h>

void work(const char* request_id);

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  constexpr char ready[] = "ready\n";
  if (write(STDOUT_FILENO, ready, sizeof ready - 1) < 0) return 1;
  char byte;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  work(argv[1]);
  return 0;
}
