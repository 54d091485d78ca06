// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_CORPUS_H
#define EXAMPLES_CORPUS_H

#include <filesystem>
#include <string>
#include <vector>

#include "tokenizer.h"

namespace example {

// Reads a text file, or all .md and .txt files below a directory in the order of their names. If there is nothing to
// read or more than 16 MiB, throws std::runtime_error with a message for the user.
std::string read_corpus(const std::filesystem::path& path);

// Reads README.md and docs/ of the source tree `root`, if they exist.
std::string read_project_docs(const std::filesystem::path& root);

// Adds the words of the corpus to the tokenizer, and returns the corpus in tokens, with kEnd after each paragraph.
// Throws std::runtime_error if the corpus is too short to learn from.
std::vector<Token> tokenize_corpus(const std::string& corpus, Tokenizer& tokenizer);

}  // namespace example

#endif  // EXAMPLES_CORPUS_H
