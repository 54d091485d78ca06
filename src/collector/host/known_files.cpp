// SPDX-License-Identifier: Apache-2.0
#include "host/known_files.h"

#include "base/failure.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

namespace nopspan::collector {
namespace {

// Long enough that a program which is started again and again is attached to only once.
constexpr auto kGoneAfter = std::chrono::seconds(2);
// The limit of files that no process maps now, but that a process may map again under their name.
constexpr std::size_t kMaximumUnmapped = 256;
constexpr std::size_t kGeneration = 8192;

}  // namespace

KnownFiles::File* KnownFiles::known(const FileId& id) {
  for (std::size_t i = 0; i < files_.size(); ++i) {
    File& file = files_[i];
    // The file is held open, so no other file can have this inode number.
    if (file.id.device != id.device || file.id.inode != id.inode) continue;
    if (file.id.size != id.size || file.id.modified_ns != id.modified_ns) {
      // The file was touched, or overwritten in place. The latter also corrupts the processes that map it.
      const auto now = ProbeFile::read(file.found.file->attach_path());
      if (!now || now->probes() != file.found.file->probes()) {
        drop(i);
        return nullptr;
      }
    }
    file.id = id;
    return &file;
  }
  return nullptr;
}

KnownFiles::File& KnownFiles::keep(const ProbeFilePointer& file, const std::string& path, std::uint32_t pid) {
  for (File& other : files_)
    if (other.found.file->is_same_inode(*file)) return other;
  File& kept = files_.emplace_back(File{{file, path, pid}, file->id(), Clock::now()});
  // Watch the folder only if the path leads to the same file in this mount namespace. A replacement inside a container
  // is found when a process maps it.
  struct stat status {};
  const bool is_here =
      stat(path.c_str(), &status) == 0 && status.st_ino == kept.id.inode && status.st_dev == kept.id.device;
  kept.is_watched = is_here && watch_.watch(path);
  if (!file->probes().empty()) changes_.appeared.push_back(kept.found);
  return kept;
}

void KnownFiles::drop(std::size_t index) {
  File& file = files_[index];
  if (file.is_watched) watch_.forget(file.found.path);
  const auto pending = std::find_if(changes_.appeared.begin(), changes_.appeared.end(),
                                    [&](const Host::Found& found) { return found.file == file.found.file; });
  if (pending != changes_.appeared.end()) {
    changes_.appeared.erase(pending);
  } else if (!file.found.file->probes().empty()) {
    changes_.gone.push_back(file.found.file);
  }
  files_.erase(files_.begin() + static_cast<std::ptrdiff_t>(index));
}

ProbeFilePointer KnownFiles::find(std::uint32_t pid, const Mapping& mapping, const std::string& path,
                                  std::string& why_not) {
  MappedFile mapped;
  if (!mapped.find(pid, mapping)) {
    why_not = mapped.why_not();
    return nullptr;
  }
  if (File* file = known(mapped.id()); file != nullptr) {
    if (file->found.pid == 0) file->found.pid = pid;
    return file->found.file;
  }
  if (const auto found = without_.find(mapped.id()); found != without_.end()) {
    why_not = found->second;
    return nullptr;
  }
  if (auto old = old_without_.extract(mapped.id())) {
    why_not = old.mapped();
    without_.insert(std::move(old));
    return nullptr;
  }
  OpenFile opened = mapped.open(pid, mapping);
  if (!opened) {
    why_not = mapped.why_not();
  } else if (auto file = ProbeFile::read(std::move(opened)); file != nullptr) {
    if (file->id().inode != mapped.id().inode) return nullptr;  // the mapping has changed since
    return keep(file, path, pid).found.file;
  }
  if (without_.size() >= kGeneration) old_without_ = std::exchange(without_, {});
  without_.emplace(mapped.id(), why_not);
  return nullptr;
}

void KnownFiles::add(const std::string& path) {
  std::string why_not;
  ProbeFilePointer file = ProbeFile::read(path, &why_not);
  if (!file) throw Failure("cannot attach to " + path + ": " + why_not, Failure::kUsageError);
  if (file->notes_are_missing())
    throw Failure("cannot attach to " + path + ": the notes that describe its probes were stripped. Strip it with " +
                      "GNU strip or llvm-strip --keep-section=.note.stapsdt",
                  Failure::kUsageError);
  File& kept = keep(file, path, 0);
  kept.is_added = true;
}

void KnownFiles::look_at_watched() {
  for (const std::string& path : watch_.appeared()) {
    struct stat status {};
    if (stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode) || known(FileId::of(status)) != nullptr) continue;
    if (ProbeFilePointer file = ProbeFile::read(path); file != nullptr) keep(file, path, 0);
  }
}

void KnownFiles::note_mapped(const ProbeFilePointer& file, Clock::time_point now) {
  for (File& known : files_)
    if (known.found.file == file) known.mapped_at = now;
}

bool KnownFiles::may_come_back(const File& file) {
  struct stat status {};
  if (stat(file.found.path.c_str(), &status) != 0) return false;
  return status.st_ino == file.id.inode && status.st_dev == file.id.device;
}

Host::Changes KnownFiles::changes(Clock::time_point now) {
  std::size_t unmapped = 0;
  for (std::size_t i = files_.size(); i-- > 0;) {
    const File& file = files_[i];
    if (file.is_added || now - file.mapped_at < kGoneAfter) continue;
    if (!may_come_back(file) || ++unmapped > kMaximumUnmapped) drop(i);
  }
  return std::exchange(changes_, {});
}

std::vector<Host::Found> KnownFiles::files() const {
  std::vector<Host::Found> result;
  for (const File& file : files_)
    if (!file.found.file->probes().empty()) result.push_back(file.found);
  return result;
}

}  // namespace nopspan::collector
