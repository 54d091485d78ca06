// SPDX-License-Identifier: Apache-2.0
// A program that executes commands: one per line on stdin, with one line of answer on stdout. A test can therefore wait
// for a condition, and never for a fixed time, between two steps of the program.
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

// Executes commands until stdin ends. Returns the exit status.
inline int execute(const Commands& commands) {
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

// The same. The very first line of output reports that the program runs, and its pid.
inline int serve(const Commands& commands) {
  std::cout << "ready " << getpid() << std::endl;
  return execute(commands);
}
