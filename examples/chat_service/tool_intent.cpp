// SPDX-License-Identifier: Apache-2.0
#include "tool_intent.h"

#include <algorithm>
#include <cctype>

namespace example {
namespace {

constexpr std::size_t kLongestQuotedResult = 400;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_operator(char c) { return c == '+' || c == '-' || c == '*' || c == '/'; }
bool is_of_expression(char c) { return is_digit(c) || is_operator(c) || c == '(' || c == ')' || c == '.' || c == ' '; }
bool is_of_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }

std::string_view trim(std::string_view text, std::string_view from_both_ends) {
  const std::size_t first = text.find_first_not_of(from_both_ends);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(from_both_ends) - first + 1);
}

bool has_operator_between_numbers(std::string_view text) {
  bool number = false;
  bool operated = false;
  for (char c : text) {
    if (is_digit(c) && operated) return true;
    if (is_digit(c)) number = true;
    if (is_operator(c) && number) operated = true;
  }
  return false;
}

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

// The position of the words after `verb`, if `text` contains it as a whole word. Otherwise npos.
std::size_t after_word(std::string_view text, std::string_view verb) {
  for (std::size_t at = text.find(verb); at != std::string_view::npos; at = text.find(verb, at + 1)) {
    const std::size_t end = at + verb.size();
    const bool begins = at == 0 || !is_of_word(text[at - 1]);
    if (begins && end < text.size() && text[end] == ' ') return end + 1;
  }
  return std::string_view::npos;
}

bool drop_word(std::string_view& text, std::string_view word) {
  if (text.size() <= word.size() || text[word.size()] != ' ' || lower(text.substr(0, word.size())) != word)
    return false;
  text.remove_prefix(word.size() + 1);
  return true;
}

const ToolDefinition* tool_named(const ChatRequest& request, std::string_view name) {
  for (const ToolDefinition& tool : request.tools) {
    const bool allowed =
        request.tool_choice == "auto" || request.tool_choice == "required" || request.tool_choice == tool.name;
    if (tool.name == name && allowed) return &tool;
  }
  return nullptr;
}

ToolCall call(const ToolDefinition& tool, const char* usual_argument, const std::string& value) {
  const std::string& argument = tool.argument.empty() ? usual_argument : tool.argument;
  return {"", tool.name, to_text(Json{{argument, value}})};
}

// The beginning of a result, cut at a line end or between two characters.
std::string_view cut(std::string_view result) {
  result = trim(result, " \n\r\t");
  if (result.size() <= kLongestQuotedResult) return result;
  std::size_t end = result.rfind('\n', kLongestQuotedResult);
  if (end == std::string_view::npos) {
    end = kLongestQuotedResult;
    while (end > 0 && (static_cast<unsigned char>(result[end]) & 0xC0U) == 0x80U) --end;
  }
  return result.substr(0, end);
}

}  // namespace

std::string find_expression(std::string_view text) {
  std::string_view longest;
  for (std::size_t begin = 0; begin < text.size();) {
    if (!is_of_expression(text[begin])) {
      ++begin;
      continue;
    }
    std::size_t end = begin;
    while (end < text.size() && is_of_expression(text[end])) ++end;
    std::string_view found = trim(text.substr(begin, end - begin), " .");
    found = found.substr(0, found.find_last_of("0123456789)") + 1);
    if (found.size() > longest.size() && has_operator_between_numbers(found)) longest = found;
    begin = end;
  }
  return std::string(longest);
}

std::string find_search(std::string_view text) {
  const std::string lowered = lower(text);
  std::size_t begin = std::string_view::npos;
  for (const char* verb : {"search", "find", "grep", "look for", "look up"}) {
    begin = std::min(begin, after_word(lowered, verb));
  }
  if (begin == std::string_view::npos) return {};
  std::string_view wanted = text.substr(begin);
  for (char quote : {'"', '\'', '`'}) {
    const std::size_t open = wanted.find(quote);
    const std::size_t close = open == std::string_view::npos ? open : wanted.find(quote, open + 1);
    if (close != std::string_view::npos) return std::string(wanted.substr(open + 1, close - open - 1));
  }
  for (const char* filler :
       {"in", "through", "the", "files", "docs", "documentation", "for", "where", "the", "text", "word"}) {
    drop_word(wanted, filler);
  }
  const std::string lowered_wanted = lower(wanted);
  std::size_t end = wanted.find_first_of("?!;,\n");
  for (const char* boundary : {". ", " in the ", " and ", " then "}) end = std::min(end, lowered_wanted.find(boundary));
  return std::string(trim(wanted.substr(0, end), " ."));
}

std::vector<ToolCall> intended_tool_calls(const ChatRequest& request) {
  const Message& last = request.messages.back();
  if (request.tool_choice == "none" || request.tools.empty() || last.role != "user") return {};
  const std::string expression = find_expression(last.content);
  const std::string search = find_search(last.content);
  std::vector<ToolCall> calls;
  const ToolDefinition* calculator = tool_named(request, "calculator");
  const ToolDefinition* file_search = tool_named(request, "file_search");
  if (calculator != nullptr && !expression.empty()) calls.push_back(call(*calculator, "expression", expression));
  if (file_search != nullptr && !search.empty()) calls.push_back(call(*file_search, "query", search));
  if (!calls.empty() || request.tool_choice == "auto") return calls;
  // A call is required: the named tool, or else the first one, gets the whole message.
  const auto named = std::find_if(request.tools.begin(), request.tools.end(),
                                  [&](const ToolDefinition& tool) { return tool.name == request.tool_choice; });
  calls.push_back(call(named == request.tools.end() ? request.tools.front() : *named, "input", last.content));
  return calls;
}

std::string answer_from_tool_results(const ChatRequest& request) {
  std::string answer;
  std::size_t first = request.messages.size();
  while (first > 0 && request.messages[first - 1].role == "tool") --first;
  for (std::size_t i = first; i < request.messages.size(); ++i) {
    if (!answer.empty()) answer += '\n';
    answer += "The tool says: ";
    answer += cut(request.messages[i].content);
  }
  if (!answer.empty()) answer += '\n';
  return answer;
}

}  // namespace example
