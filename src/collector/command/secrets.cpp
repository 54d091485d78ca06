// SPDX-License-Identifier: Apache-2.0
#include "command/secrets.h"

#include <strings.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace nopspan::collector {
namespace {

void hide(char* text) { std::fill_n(text, std::strlen(text), '*'); }

// NAME=VALUE. A text in another form is a mistake that may contain a secret too.
void hide_value(char* header) {
  char* const equals = std::strchr(header, '=');
  hide(equals == nullptr ? header : equals + 1);
}

// A password may have been written with a "/", although it must be escaped there.
void hide_in_url(char* url) {
  char* const scheme = std::strstr(url, "://");
  char* const user = scheme == nullptr ? url : scheme + 3;
  char* const user_end = std::strrchr(user, '@');
  if (user_end != nullptr) std::fill(user, user_end, '*');
  if (char* const query = std::strchr(user, '?')) hide(query + 1);
}

struct SecretArgument {
  std::string_view option;
  void (*hide)(char* value);
};
constexpr SecretArgument kSecretArguments[] = {{"--header", hide_value}, {"--otlp", hide_in_url}};

bool is_secret_variable(std::string_view name) {
  constexpr std::string_view kProxy = "_proxy";
  if (name.starts_with("OTEL_EXPORTER_OTLP_")) return name.ends_with("HEADERS") || name.ends_with("ENDPOINT");
  return name.size() > kProxy.size() &&
         ::strncasecmp(name.data() + name.size() - kProxy.size(), kProxy.data(), kProxy.size()) == 0;
}

// Calls `each` with the name and the value of the variables that may contain secrets.
template <class Each>
void for_each_secret_variable(const Each& each) {
  std::vector<char*> variables;  // a copy, because `each` may change the list
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
    variables.push_back(*variable);
  }
  for (char* const variable : variables) {
    char* const equals = std::strchr(variable, '=');
    if (equals == nullptr) continue;
    const std::string name(variable, equals);
    if (is_secret_variable(name)) each(name, equals + 1);
  }
}

}  // namespace

std::vector<std::string> take_arguments(int argc, char** argv) {
  std::vector<std::string> taken(argv, argv + argc);
  for (int i = 0; i < argc; ++i) {
    const std::string_view argument = taken[static_cast<std::size_t>(i)];
    for (const auto& [option, hide_secret] : kSecretArguments) {
      if (argument == option && i + 1 < argc) hide_secret(argv[i + 1]);
      if (argument.starts_with(option) && argument.substr(option.size()).starts_with('=')) {
        hide_secret(argv[i] + option.size() + 1);
      }
    }
  }
  return taken;
}

void hide_secret_variables() {
  for_each_secret_variable([](const std::string& name, char* value) {
    const std::string copy = value;
    // A name that is there twice has the first value. setenv() does not write to the old text.
    if (std::getenv(name.c_str()) == value && ::setenv(name.c_str(), copy.c_str(), 1) != 0) return;
    hide(value);
  });
}

void forget_secret_variables() {
  for_each_secret_variable([](const std::string& name, char* value) {
    hide(value);
    ::unsetenv(name.c_str());
  });
}

}  // namespace nopspan::collector
