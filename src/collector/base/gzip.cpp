// SPDX-License-Identifier: Apache-2.0
#include "base/gzip.h"

#include <libdeflate.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

namespace nopspan::collector {

namespace {

template <class Bound, class Compress>
std::string compressed(std::string_view bytes, int level, Bound bound, Compress compress) {
  const std::unique_ptr<libdeflate_compressor, decltype(&libdeflate_free_compressor)> compressor(
      libdeflate_alloc_compressor(level), libdeflate_free_compressor);
  if (!compressor) throw std::bad_alloc();
  std::string out(bound(compressor.get(), bytes.size()), '\0');
  out.resize(compress(compressor.get(), bytes.data(), bytes.size(), out.data(), out.size()));
  return out;
}

}  // namespace

std::string gzipped(std::string_view bytes, int level) {
  return compressed(bytes, level, libdeflate_gzip_compress_bound, libdeflate_gzip_compress);
}

std::string deflated(std::string_view bytes, int level) {
  return compressed(bytes, level, libdeflate_zlib_compress_bound, libdeflate_zlib_compress);
}

std::optional<std::string> gunzipped(std::string_view bytes, std::size_t most) {
  const std::unique_ptr<libdeflate_decompressor, decltype(&libdeflate_free_decompressor)> decompressor(
      libdeflate_alloc_decompressor(), libdeflate_free_decompressor);
  if (!decompressor) throw std::bad_alloc();
  // The end has the size, modulo 2^32. If it is wrong, the result is not the right one.
  std::uint32_t plain = 0;
  if (bytes.size() < sizeof(plain)) return {};
  std::memcpy(&plain, bytes.data() + bytes.size() - sizeof(plain), sizeof(plain));
  if (plain > most) return {};
  std::string out(plain, '\0');
  std::size_t size = 0;
  if (libdeflate_gzip_decompress(decompressor.get(), bytes.data(), bytes.size(), out.data(), out.size(), &size) !=
      LIBDEFLATE_SUCCESS)
    return {};
  out.resize(size);
  return out;
}

}  // namespace nopspan::collector
