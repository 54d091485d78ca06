// SPDX-License-Identifier: Apache-2.0
// A program that does what it is told: one command a line on stdin, one line of answer on stdout. So that a test can
// wait for a condition between two steps of the program, and never for time.
#pragma once

#include <unistd.h>

#include <functional>
#include <iostream>
#include <map>
#include <sstream>
#include <string>

using Commands = std::map<std::string, std::function<std::string(std::istringstream& arguments)>>;

// The next word of a command's arguments.
inline std::string word(std::istringstream& arguments) {
  std::string text;
  arguments >> text;
  return text;
}

// Answers until stdin ends. The first line of all says that the program runs, and its pid.
inline int serve(const Commands& commands) {
  std::cout << "ready " << getpid() << std::endl;
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream arguments(line);
    const auto command = commands.find(word(arguments));
    if (command == commands.end()) {
      std::cout << "unknown command: " << line << std::endl;
      return 2;
    }
    std::cout << command->second(arguments) << std::endl;
  }
  return 0;
}
