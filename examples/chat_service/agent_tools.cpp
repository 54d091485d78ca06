// SPDX-License-Identifier: Apache-2.0
#include "agent_tools.h"

#include <exception>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace example {
namespace {

namespace fs = std::filesystem;

constexpr int kMostMatches = 10;
constexpr std::size_t kLongestLine = 200;  // longer lines are not searched

Json definition(const char* name, const char* description, const char* parameter, const char* meaning) {
  const Json parameters{{"type", "object"},
                        {"properties", {{parameter, {{"type", "string"}, {"description", meaning}}}}},
                        {"required", Json::array({parameter})}};
  return Json{{"type", "function"},
              {"function", {{"name", name}, {"description", description}, {"parameters", parameters}}}};
}

// The value of "6 * 7".
std::string calculate(const std::string& expression) {
  std::istringstream in(expression);
  double a = 0.0, b = 0.0;
  char operation = 0;
  if (!(in >> a >> operation >> b)) throw std::invalid_argument("not an operation of two numbers");
  if (operation == '/' && b == 0.0) throw std::invalid_argument("division by zero");
  std::ostringstream out;
  out.precision(15);
  out << (operation == '+' ? a + b : operation == '-' ? a - b : operation == '*' ? a * b : a / b);
  return out.str();
}

// The first lines below `root` that contain `text`.
std::string search_files(const fs::path& root, const std::string& text) {
  std::string found;
  int matches = 0;
  for (const auto& entry : fs::recursive_directory_iterator(root, fs::directory_options::skip_permission_denied)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream file(entry.path());
    std::string line;
    for (int number = 1; std::getline(file, line); ++number) {
      if (line.size() > kLongestLine || line.find(text) == std::string::npos) continue;
      found += entry.path().lexically_relative(root).string() + ":" + std::to_string(number) + ": " + line + "\n";
      if (++matches == kMostMatches) return found;
    }
  }
  return found.empty() ? "no file contains \"" + text + "\"" : found;
}

}  // namespace

Json tool_definitions() {
  return Json::array(
      {definition("calculator", "Computes an operation of two numbers.", "expression", "for example 6 * 7"),
       definition("file_search", "Finds a text in the files of the project.", "query", "the text to find")});
}

ToolResult run_tool(const ToolCall& call, const fs::path& search_root) {
  try {
    const Json arguments = Json::parse(call.arguments);
    if (call.name == "calculator") return {calculate(arguments.at("expression").get<std::string>()), ""};
    if (call.name == "file_search") return {search_files(search_root, arguments.at("query").get<std::string>()), ""};
    return {"error: there is no tool " + call.name, "unknown_tool"};
  } catch (const std::exception& error) {
    return {std::string("error: ") + error.what(), call.name + "_error"};
  }
}

}  // namespace example
