// SPDX-License-Identifier: Apache-2.0
#include "hist/hist_merge.h"

#include "base/failure.h"
#include "base/text.h"

#include <nlohmann/json.hpp>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <ios>
#include <iostream>
#include <iterator>
#include <optional>
#include <string_view>

namespace nopspan::collector {
namespace {

using Json = nlohmann::ordered_json;

std::string contents_of(const std::string& path) {
  std::ifstream file;
  if (path != "-") {
    file.open(path, std::ios::binary);
    if (!file) throw Failure(printable(path) + ": " + std::strerror(errno), Failure::kUsageError);
  }
  std::istream& stream = path == "-" ? std::cin : file;
  try {
    return {std::istreambuf_iterator<char>(stream), {}};
  } catch (const std::ios_base::failure& failure) {  // for example, the path is a folder
    throw Failure(printable(path) + ": " + failure.code().message(), Failure::kUsageError);
  }
}

std::string_view last_line(std::string_view text) {
  const std::size_t end = text.find_last_not_of(" \t\r\n");
  if (end == std::string_view::npos) return {};
  text = text.substr(0, end + 1);
  const std::size_t begin = text.rfind('\n');
  return begin == std::string_view::npos ? text : text.substr(begin + 1);
}

HistTable read_file(const std::string& path) {
  const std::string text = contents_of(path);
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) json = Json::parse(last_line(text), nullptr, false);
  try {
    if (json.is_discarded()) throw Failure("it is not valid JSON, or is truncated");
    return hist_table_from_json(json);
  } catch (const Failure& failure) {
    throw Failure(printable(path) + ": " + failure.what(), Failure::kUsageError);
  }
}

}  // namespace

HistTable merged(const std::vector<std::string>& files) {
  std::optional<HistTable> table;
  for (const std::string& path : files) {
    HistTable read = read_file(path);
    if (!table) {
      table = std::move(read);
      continue;
    }
    try {
      table->merge(read);
    } catch (const Failure& failure) {
      throw Failure(printable(path) + ": " + failure.what(), failure.exit_status);
    }
  }
  return std::move(table.value());
}

}  // namespace nopspan::collector
