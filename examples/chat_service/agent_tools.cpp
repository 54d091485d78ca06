// SPDX-License-Identifier: Apache-2.0
#include "agent_tools.h"

#include <exception>
#include <stdexcept>

#include "calculator.h"
#include "file_search.h"

namespace example {
namespace {

Json definition(const char* name, const char* description, const char* parameter, const char* meaning) {
  const Json parameters{{"type", "object"},
                        {"properties", {{parameter, {{"type", "string"}, {"description", meaning}}}}},
                        {"required", Json::array({parameter})}};
  return Json{{"type", "function"},
              {"function", {{"name", name}, {"description", description}, {"parameters", parameters}}}};
}

std::string argument(const ToolCall& call, const char* name) {
  const Json arguments = Json::parse(call.arguments, nullptr, /*allow_exceptions=*/false);
  if (!arguments.is_object() || !arguments.contains(name) || !arguments[name].is_string()) {
    throw std::invalid_argument(std::string("the argument ") + name + " is missing");
  }
  return arguments[name].get<std::string>();
}

ToolResult failure(const char* type, const std::string& what) { return {false, "error: " + what, type}; }

}  // namespace

Json AgentTools::definitions() {
  return Json::array(
      {definition("calculator", "Computes an arithmetic expression.", "expression", "numbers, + - * / and parentheses"),
       definition("file_search", "Finds a text in the files of the project.", "query", "the text to find")});
}

ToolResult AgentTools::run(const ToolCall& call) const {
  try {
    if (call.name == "calculator") return {true, calculate_text(argument(call, "expression")), ""};
    if (call.name == "file_search") return {true, file_search(argument(call, "query")), ""};
    return failure("unknown_tool", "there is no tool " + call.name);
  } catch (const CalculatorError& error) {
    return failure("calculator_error", error.what());
  } catch (const std::invalid_argument& error) {
    return failure("invalid_arguments", error.what());
  } catch (const std::exception& error) {
    return failure("tool_error", error.what());
  }
}

std::string AgentTools::file_search(const std::string& query) const {
  const SearchResult result = search_files(search_root_, query);
  if (result.matches.empty()) return "no file contains \"" + query + "\"";
  std::string text;
  for (const std::string& match : result.matches) text += match + "\n";
  if (!result.complete) text += "and more";
  return text;
}

}  // namespace example
