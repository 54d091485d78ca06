// SPDX-License-Identifier: Apache-2.0
#include "corpus.h"

#include <algorithm>
#include <fstream>
#include <istream>
#include <iterator>
#include <stdexcept>
#include <string_view>
#include <system_error>

namespace example {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kLargestCorpusBytes = std::size_t{16} << 20;
constexpr std::size_t kFewestTokens = 200;

bool is_text_file(const fs::path& path) { return path.extension() == ".md" || path.extension() == ".txt"; }

std::vector<fs::path> text_files_below(const fs::path& directory) {
  std::vector<fs::path> files;
  std::error_code ignored;
  const auto options = fs::directory_options::skip_permission_denied;
  for (fs::recursive_directory_iterator entry(directory, options, ignored), end; entry != end;
       entry.increment(ignored)) {
    if (entry->is_regular_file(ignored) && is_text_file(entry->path())) files.push_back(entry->path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

bool begins_with(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }

// Appends a line of running text, without Markdown's marks for emphasis and code.
void append_prose(std::string_view line, std::string& prose) {
  for (char c : line) {
    if (c != '*' && c != '`') prose += c;
  }
}

// The paragraphs and list entries of a Markdown text, one per line, separated by empty lines. Code, tables and headings
// are omitted, because a model of words learns nothing from them.
std::string prose_of_markdown(std::istream& markdown) {
  std::string prose;
  std::string line;
  bool in_code = false;
  bool continues = false;
  while (std::getline(markdown, line)) {
    std::string_view text = line;
    text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
    while (!text.empty() && (text.back() == '\r' || text.back() == ' ')) text.remove_suffix(1);
    if (begins_with(text, "```")) in_code = !in_code;
    if (in_code || text.empty() || begins_with(text, "```") || text.find_first_of("|#<") == 0) {
      continues = false;
      continue;
    }
    const bool entry = begins_with(text, "- ") || begins_with(text, "* ");
    if (entry) text.remove_prefix(2);
    if (!prose.empty()) prose += continues && !entry ? " " : "\n\n";
    append_prose(text, prose);
    continues = true;
  }
  return prose;
}

void append_file(const fs::path& path, std::string& corpus) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read the corpus: " + path.string());
  std::error_code ignored;
  if (corpus.size() + fs::file_size(path, ignored) > kLargestCorpusBytes) {
    throw std::runtime_error("the corpus is larger than 16 MiB");
  }
  if (path.extension() == ".md") {
    corpus += prose_of_markdown(file);
  } else {
    corpus.append(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  corpus += "\n\n";
}

std::string_view without_line_breaks_around(std::string_view text) {
  while (!text.empty() && text.front() == '\n') text.remove_prefix(1);
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  return text;
}

}  // namespace

std::string read_corpus(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) throw std::runtime_error("no such corpus: " + path.string());
  std::string corpus;
  if (fs::is_directory(status)) {
    const std::vector<fs::path> files = text_files_below(path);
    if (files.empty()) throw std::runtime_error("no .md or .txt file in the corpus: " + path.string());
    for (const fs::path& file : files) append_file(file, corpus);
  } else {
    append_file(path, corpus);
  }
  return corpus;
}

std::string read_project_docs(const fs::path& root) {
  std::string corpus;
  std::error_code ignored;
  if (fs::is_regular_file(root / "README.md", ignored)) append_file(root / "README.md", corpus);
  for (const fs::path& file : text_files_below(root / "docs")) append_file(file, corpus);
  return corpus;
}

std::vector<Token> tokenize_corpus(const std::string& corpus, Tokenizer& tokenizer) {
  tokenizer.learn(corpus);
  std::vector<Token> tokens;
  std::string_view rest = corpus;
  while (!rest.empty()) {
    const std::size_t length = std::min(rest.find("\n\n"), rest.size());
    const std::string_view paragraph = without_line_breaks_around(rest.substr(0, length));
    rest.remove_prefix(std::min(length + 2, rest.size()));
    if (paragraph.empty()) continue;
    for (Token token : tokenizer.encode(paragraph)) tokens.push_back(token);
    tokens.push_back(kEnd);
  }
  if (tokens.size() < kFewestTokens) throw std::runtime_error("the corpus is too short to learn from; give --corpus");
  return tokens;
}

}  // namespace example
