// SPDX-License-Identifier: Apache-2.0
#include "export/exported_resource.h"

#include "base/text.h"
#include "base/utf8.h"
#include "model/otlp_wire.h"
#include "model/service.h"

#include <algorithm>
#include <cctype>
#include <cstddef>

namespace nopspan::collector {
namespace {

constexpr std::size_t kUuidBytes = 36;

// A uid with "-", or with "_", as systemd's names of slices have it. "" if the text is something else.
std::string uid_in(std::string_view text) {
  if (text.size() < kUuidBytes) return "";
  std::string uid(text.substr(0, kUuidBytes));
  for (std::size_t i = 0; i < uid.size(); ++i) {
    if (i == 8 || i == 13 || i == 18 || i == 23) {
      if (uid[i] != '-' && uid[i] != '_') return "";
      uid[i] = '-';
    } else if (std::isxdigit(static_cast<unsigned char>(uid[i])) == 0) {
      return "";
    }
  }
  return uid;
}

// The attributes of one Resource. The first value of a key counts, unless it is empty.
class ResourceWriter {
 public:
  explicit ResourceWriter(std::uint64_t& repaired) : repaired_(repaired) {}

  void text(std::string_view key, std::string_view value) {
    if (value.empty() || !is_new(key)) return;
    if (!is_utf8(key)) ++repaired_;
    if (!is_utf8(value)) ++repaired_;
    append_text_attribute(out_, kResourceAttributes, replaced_utf8(key), replaced_utf8(value));
  }
  void integer(std::string_view key, std::int64_t value) {
    if (is_new(key)) append_integer_attribute(out_, kResourceAttributes, key, value);
  }
  [[nodiscard]] std::string take() { return std::move(out_); }

 private:
  bool is_new(std::string_view key) {
    if (std::find(keys_.begin(), keys_.end(), key) != keys_.end()) return false;
    keys_.push_back(key);
    return true;
  }

  std::uint64_t& repaired_;
  std::string out_;
  std::vector<std::string_view> keys_;  // they refer to what the caller owns
};

}  // namespace

std::string pod_uid(std::string_view cgroup) {
  // "/kubepods/burstable/pod<uid>/…" or "/kubepods.slice/…/kubepods-burstable-pod<uid>.slice/…"
  if (cgroup.find("kubepods") == std::string_view::npos) return "";
  constexpr std::string_view kPod = "pod";
  for (std::size_t at = cgroup.find(kPod); at != std::string_view::npos; at = cgroup.find(kPod, at + 1)) {
    std::string uid = uid_in(cgroup.substr(at + kPod.size()));
    if (!uid.empty()) return uid;
  }
  return "";
}

std::string service_instance_id(const Process& process) {
  // The hash of request ids has 128 bits. The text is of no form that it treats specially.
  const TraceId hash = trace_id_of("service.instance.id " + (process.boot_id.empty() ? process.host : process.boot_id) +
                                   " " + std::to_string(process.pid) + " " + std::to_string(process.start_ticks));
  std::string id = hex_text({reinterpret_cast<const char*>(hash.bytes), sizeof(hash.bytes)});
  id[12] = '8';  // RFC 9562: a UUID of version 8 may have any content
  id[16] = "89ab"[hash.bytes[8] >> 4U & 3U];
  for (const std::size_t at : {8, 13, 18, 23}) id.insert(at, 1, '-');
  return id;
}

std::string exported_resource(const Process& process, const ExportOptions& options, std::uint64_t& repaired) {
  const auto members = parse_members(process.resource_attributes);
  const NamesAndValues own = members.value_or(NamesAndValues());
  ResourceWriter out(repaired);
  const std::string instance = service_instance_id(process), pod = pod_uid(process.cgroup);
  const std::string& path = process.executable;
  out.text("service.name", service_of(process));
  out.text("service.instance.id", instance);
  out.text("host.name", process.host);
  if (process.pid != 0) out.integer("process.pid", process.pid);
  if (process.namespace_pid != process.pid) out.integer("process.vpid", process.namespace_pid);
  out.text("process.executable.path", path);
  out.text("process.executable.name", std::string_view(path).substr(path.rfind('/') + 1));
  out.text("process.linux.cgroup", process.cgroup);
  out.text("container.id", process.container);
  out.text("k8s.pod.uid", pod);
  out.text("telemetry.sdk.name", "nopspan");
  out.text("telemetry.sdk.language", "cpp");
  out.text("telemetry.sdk.version", process.library_version);
  for (const auto& [key, value] : own) out.text(key, value);
  for (const auto& [key, value] : options.resource_attributes) out.text(key, value);
  std::string resource = out.take();
  if (!members) append_varint(resource, 2, 1);  // dropped_attributes_count
  return resource;
}

}  // namespace nopspan::collector
