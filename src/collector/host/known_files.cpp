// SPDX-License-Identifier: Apache-2.0
#include "host/known_files.h"

#include "base/failure.h"
#include "base/stopping.h"
#include "base/time_budget.h"
#include "host/mounts.h"
#include "host/process_facts.h"
#include "host/process_reader.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>

namespace nopspan::collector {
namespace {

// Long enough that a program which is started again and again is attached to only once.
constexpr auto kGoneAfter = std::chrono::seconds(2);
// How often a file that is named on the command line is read again.
constexpr int kMoreTries = 2;
constexpr auto kMoreThanLeftAlone = std::chrono::milliseconds(50);
// The limit of files that no process maps now, but that a process may map again under their name.
constexpr std::size_t kMaximumUnmapped = 256;
constexpr std::size_t kGeneration = 8192;
// A file takes one descriptor, and up to two more when it is attached. A part of all descriptors is for other purposes.
constexpr std::size_t kDescriptorsOfAFile = 4;
constexpr std::size_t kMaximumUsers = 64;  // that are remembered
// How often the path of a file that no process maps is looked up.
constexpr auto kLookUpPause = std::chrono::seconds(1);
// How long a file is not leased again if nobody was seen to have opened it for writing.
constexpr auto kWritersPause = std::chrono::seconds(2);
// The longest time to examine files that appeared in watched folders.
constexpr auto kMostTimeOfWatched = std::chrono::milliseconds(250);

// ---- These run in the child that reads, because a path that a process chose may lead to a file server that never
// answers. Requests and answers are CBOR, or a path.

using nlohmann::json;

std::string packed(const json& value) {
  std::string bytes;
  json::to_cbor(value, bytes);
  return bytes;
}

// Null if it is damaged.
json unpacked(std::string_view bytes) { return json::from_cbor(bytes, true, false); }

json packed_mapping(const Mapping& mapping) {
  return {mapping.start, mapping.end, mapping.device, mapping.inode, mapping.path};
}

Mapping unpacked_mapping(const json& value) {
  Mapping mapping;
  value.at(0).get_to(mapping.start);
  value.at(1).get_to(mapping.end);
  value.at(2).get_to(mapping.device);
  value.at(3).get_to(mapping.inode);
  mapping.path = value.at(4).get_ref<const std::string&>();
  return mapping;
}

// Identifies the files of several mappings: for each its FileId, or else the reason why it cannot be
// identified.
Answer identify_work(std::uint32_t pid, std::string_view request, OpenFile /*file*/) {
  json answer = json::array();
  for (const json& each : unpacked(request)) {
    MappedFile mapped;
    if (mapped.find(pid, unpacked_mapping(each))) {
      answer.push_back(mapped.id());
    } else {
      answer.push_back(mapped.why_not());
    }
  }
  return {0, packed(answer), OpenFile()};
}

// Reads an open file with ProbeFile. `bytes` are its description, or the reason why there is none; then there is no
// file.
Answer read_file(OpenFile file, std::string why_not) {
  if (file) {
    const ProbeFilePointer read = ProbeFile::read(std::move(file), &why_not);
    if (read) {
      OpenFile copy(fcntl(read->fd(), F_DUPFD_CLOEXEC, 0));
      return {copy ? 0 : errno, read->packed(), std::move(copy)};
    }
  }
  return {0, why_not, OpenFile()};
}

Answer open_mapping_work(std::uint32_t pid, std::string_view request, OpenFile /*file*/) {
  const json value = unpacked(request);
  const Mapping mapping = unpacked_mapping(value);
  MappedFile mapped;
  if (!mapped.find(pid, mapping)) return {ENOENT, "", OpenFile()};
  OpenFile file = mapped.open(pid, mapping);
  if (!file) return {mapped.why_not().empty() ? ENOENT : EACCES, mapped.why_not(), OpenFile()};
  return read_file(std::move(file), "");
}

Answer open_path_work(std::uint32_t /*pid*/, std::string_view path, OpenFile /*file*/) {
  OpenFile file = open_regular(std::string(path));
  return read_file(std::move(file), std::strerror(errno));
}

Answer read_again_work(std::uint32_t /*pid*/, std::string_view /*request*/, OpenFile file) {
  char byte = 0;
  if (pread(file.get(), &byte, 1, 0) < 0) return {errno, "", OpenFile()};
  return read_file(std::move(file), "");
}

Answer watch_work(std::uint32_t /*pid*/, std::string_view folder, OpenFile inotify) {
  const int id = inotify_add_watch(inotify.get(), std::string(folder).c_str(), FileWatch::kEvents);
  if (id < 0) return {errno, "", OpenFile()};
  return {0, std::to_string(id), OpenFile()};
}

// ---- These run in this process.

ProbeFilePointer file_of(Answer answer, std::string* why_not = nullptr) {
  const bool is_read = answer.error == 0 && answer.file;
  if (why_not != nullptr && !is_read) *why_not = answer.error == 0 ? answer.bytes : read_error_text(answer.error);
  return is_read ? ProbeFile::unpacked(answer.bytes, std::move(answer.file)) : nullptr;
}

void give_up_lease(int file) { fcntl(file, F_SETLEASE, F_UNLCK); }

}  // namespace

KnownFiles::File* KnownFiles::known(const FileId& id) {
  for (std::size_t i = 0; i < files_.size(); ++i) {
    File& file = files_[i];
    // The file is held open, so no other file can have this inode number.
    if (file.id.device != id.device || file.id.inode != id.inode) continue;
    // If it could not be read, it stays attached, and is read again when a process maps it the next time.
    if (file.makes_way || read_again(file, id) != Again::other_content) return &file;
    drop(i);
    return nullptr;
  }
  return nullptr;
}

KnownFiles::Again KnownFiles::read_again(File& file, const FileId& id) {
  if (file.id != id) {
    // The file was touched, or overwritten in place. The latter also corrupts the processes that map it. A file that
    // blocks is left alone under this name.
    const std::string name = std::to_string(id.device) + ":" + std::to_string(id.inode) + "/";
    Answer answer = read_process(0, read_again_work, name, file.found.file->fd());
    if (answer.error != 0) return Again::not_read;
    const auto now = file_of(std::move(answer));
    if (!now || now->probes() != file.found.file->probes()) return Again::other_content;
  }
  file.id = id;
  return Again::same_probes;
}

// A user may hold half of the files that other users have left.
bool KnownFiles::may_hold_more(std::uint32_t user) const {
  rlimit descriptors{};
  if (getrlimit(RLIMIT_NOFILE, &descriptors) != 0) return true;
  const auto is_payer = [user](const File& file) { return file.payer && user_range(*file.payer) == user_range(user); };
  const auto held = static_cast<std::size_t>(std::count_if(files_.begin(), files_.end(), is_payer));
  return files_.size() + held < descriptors.rlim_cur / kDescriptorsOfAFile;
}

std::string KnownFiles::refuse(const FileId& id, std::uint32_t user) {
  if (refused_ids_.size() >= kGeneration) refused_ids_.clear();
  if (refused_ids_.insert(id).second) ++refused_.files;
  if (refused_.users.size() < kMaximumUsers) refused_.users.insert(user);
  return "the programs of user " + std::to_string(user) + " have too many files with probes, so it is not traced";
}

KnownFiles::File* KnownFiles::keep(const ProbeFilePointer& file, const std::string& path, std::uint32_t pid,
                                   std::optional<std::uint32_t> user) {
  for (File& other : files_) {
    if (!other.found.file->is_same_inode(*file)) continue;
    if (user) note_user(other, *user);
    return &other;
  }
  if (user && !may_hold_more(*user)) return nullptr;
  File& kept = files_.emplace_back();
  kept.found = {file, path, pid, {}};
  kept.payer = user;
  if (user) note_user(kept, *user);
  kept.id = file->id();
  kept.mapped_at = Clock::now();
  lease(kept, kept.mapped_at);
  // Watch the folder only if the path leads to the same file in this mount namespace. A replacement inside a container
  // is found when a process maps it.
  const auto id = FileId::at(path);
  kept.is_watched = id && id->inode == kept.id.inode && id->device == kept.id.device &&
                    watch_.watch(path, [](int inotify, const std::string& folder) {
                      const Answer answer = read_process(0, watch_work, folder, inotify);
                      return answer.error == 0 ? std::atoi(answer.bytes.c_str()) : -1;
                    });
  return &kept;
}

void KnownFiles::note_user(File& file, std::uint32_t user) {
  if (file.found.users.size() < kMaximumUsers) file.found.users.insert(user);
}

void KnownFiles::drop(std::size_t index) {
  File& file = files_[index];
  if (file.is_watched) watch_.forget(file.found.path);
  if (file.is_leased) given_up_.push_back(file.found.file);
  has_dropped_ = true;
  files_.erase(files_.begin() + static_cast<std::ptrdiff_t>(index));
}

std::vector<KnownFiles::Result> KnownFiles::find(const Target& process, const std::vector<Mapping>& mappings,
                                                 Clock::time_point until) {
  std::vector<Result> results(mappings.size());
  json request = json::array();
  for (const Mapping& mapping : mappings) request.push_back(packed_mapping(mapping));
  const Answer answer = read_process(process, identify_work, packed(request));
  const json ids = unpacked(answer.bytes);
  if (answer.error != 0 || !ids.is_array() || ids.size() != mappings.size()) return results;
  for (std::size_t i = 0; i < mappings.size(); ++i) {
    Result& result = results[i];
    result.is_known = true;
    if (ids[i].is_string()) {
      ids[i].get_to(result.why_not);
    } else if (const auto id = ids[i].get<FileId>(); !find_known(id, process.pid, result)) {
      result.is_known = Clock::now() < until;
      if (result.is_known) examine(process, mappings[i], id, result);
      is_behind_ = is_behind_ || !result.is_known;
    }
  }
  return results;
}

bool KnownFiles::find_known(const FileId& id, std::uint32_t pid, Result& result) {
  if (File* file = known(id); file != nullptr) {
    note_user(*file, user_of(pid));
    if (file->found.pid == 0) file->found.pid = pid;
    result.file = file->found.file;
    return true;
  }
  if (refused_ids_.contains(id)) {
    const std::uint32_t user = user_of(pid);
    if (!may_hold_more(user)) {
      result.why_not = refuse(id, user);
      return true;
    }
    refused_ids_.erase(id);
  }
  if (auto old = old_without_.extract(id)) without_.insert(std::move(old));
  const auto found = without_.find(id);
  if (found == without_.end()) return false;
  result.why_not = found->second;
  return true;
}

void KnownFiles::examine(const Target& process, const Mapping& mapping, const FileId& id, Result& result) {
  Answer answer = read_process(process, open_mapping_work, packed(packed_mapping(mapping)));
  if (answer.error == ENOENT) return;  // the mapping has changed since
  if (answer.error == 0 && answer.file) {
    const auto file = file_of(std::move(answer));
    std::string_view name = mapping.path;
    take_deleted(name);
    if (!file || file->id().inode != id.inode) return;
    const std::uint32_t user = user_of(process.pid);
    if (const File* kept = keep(file, unescaped(name), process.pid, user)) {
      result.file = kept->found.file;
    } else {
      result.why_not = refuse(id, user);
    }
    return;
  }
  if (answer.error != 0 && answer.error != EACCES) {
    result.is_known = false;
    if (answer.error == EMFILE) result.why_not = read_error_text(EMFILE);
    return;
  }
  if (answer.error == EACCES) result.why_not = answer.bytes;
  if (without_.size() >= kGeneration) old_without_ = std::exchange(without_, {});
  without_.emplace(id, result.why_not);
}

void KnownFiles::add(const std::string& path) {
  Answer answer = read_process(0, open_path_work, path);
  // The disk may only be slow. The path is left alone for 1 s, and then for 2 s.
  for (int tries = 1; has_blocked(answer) && tries <= kMoreTries && !stopping; ++tries) {
    std::this_thread::sleep_for(std::chrono::seconds(tries) + kMoreThanLeftAlone);
    answer = read_process(0, open_path_work, path);
  }
  std::string why_not;
  const ProbeFilePointer file = file_of(std::move(answer), &why_not);
  if (!file) throw Failure("cannot attach to " + path + ": " + why_not, Failure::kUsageError);
  if (file->notes_are_missing())
    throw Failure("cannot attach to " + path + ": the notes that describe its probes were stripped. Strip it with " +
                      "GNU strip or llvm-strip --keep-section=.note.stapsdt",
                  Failure::kUsageError);
  File* kept = keep(file, path, 0, std::nullopt);
  kept->is_added = true;
  kept->payer.reset();
}

void KnownFiles::look_at_watched() {
  // Anybody may write many files into their own folder. The rest is found when a process maps it.
  const auto until = Clock::now() + kMostTimeOfWatched;
  for (const std::string& path : watch_.appeared()) {
    if (Clock::now() > until) return;
    look_at(path);
  }
}

void KnownFiles::look_at(const std::string& path) {
  const auto id = FileId::at(path);
  if (!id || known(*id) != nullptr) return;
  const auto file = file_of(read_process(0, open_path_work, path));
  struct stat status {};
  if (file == nullptr || fstat(file->fd(), &status) != 0) return;
  if (keep(file, path, 0, status.st_uid) == nullptr) refuse(*id, status.st_uid);
}

void KnownFiles::note_mapped(const ProbeFilePointer& file, Clock::time_point now) {
  for (File& known : files_)
    if (known.found.file == file) known.mapped_at = now;
}

bool KnownFiles::may_come_back(File& file, Clock::time_point now) {
  if (now - file.looked_up_at < kLookUpPause) return file.may_come_back;
  file.looked_up_at = now;
  int error = 0;
  const auto id = FileId::at(file.found.path, &error);
  if (error == EAGAIN) return file.may_come_back;
  file.may_come_back =
      id && id->inode == file.id.inode && id->device == file.id.device && !is_idle_now(file.id.device, now);
  return file.may_come_back;
}

// To find out takes time for each mount and each process.
bool KnownFiles::is_idle_now(std::uint64_t device, Clock::time_point now) {
  if (now - idle_at_ >= kLookUpPause) {
    idle_.clear();
    idle_at_ = now;
  }
  const auto [known, is_new] = idle_.try_emplace(device);
  if (is_new) known->second = is_idle(device);
  return known->second;
}

bool KnownFiles::update(Clock::time_point now) {
  std::size_t unmapped = 0;
  std::vector<std::string> paths;  // of files with other content
  for (std::size_t i = files_.size(); i-- > 0;) {
    File& file = files_[i];
    if (!file.is_leased && !lease(file, now)) {
      if (file.is_watched) paths.push_back(file.found.path);
      drop(i);
      continue;
    }
    if (file.is_added || now - file.mapped_at < kGoneAfter) continue;
    if (!may_come_back(file, now) || ++unmapped > kMaximumUnmapped) drop(i);
  }
  for (const std::string& path : paths) look_at(path);
  return std::exchange(has_dropped_, false);
}

// A library may be open for writing for as long as a process maps it, for example one in memory (memfd_create). It is
// attached to without a lease, unless a writer has come later.
bool KnownFiles::lease(File& file, Clock::time_point now) {
  const int fd = file.found.file->fd();
  const f_owner_ex owner{F_OWNER_TID, gettid()};
  errno = 0;
  // It fails too if the file system has no leases, or if the file has another owner and CAP_LEASE is missing.
  file.is_leased = lease_signal_ && fcntl(fd, F_SETOWN_EX, &owner) == 0 && fcntl(fd, F_SETLEASE, F_RDLCK) == 0;
  if (errno == EAGAIN) {  // some program has it open for writing
    file.makes_way = file.makes_way || file.found.pid == 0;
    file.makes_way_at = {};
    return true;
  }
  if (!file.is_leased && !file.makes_way) return true;
  const auto id = FileId::of(fd);
  // The writer may have tried with O_NONBLOCK, and may try again.
  const bool is_too_early = id == file.id && now - file.makes_way_at < kWritersPause;
  const Again again = !id ? Again::not_read : is_too_early ? Again::same_probes : read_again(file, *id);
  file.makes_way = is_too_early || again != Again::same_probes;
  if (file.makes_way && std::exchange(file.is_leased, false)) give_up_lease(fd);
  return again != Again::other_content;
}

void KnownFiles::begin_leases() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGIO);
  lease_signal_.reset(signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!lease_signal_) throw Failure("cannot wait for signals: " + errno_text(errno));
}

bool KnownFiles::make_way() {
  signalfd_siginfo signal{};
  if (!lease_signal_ || read(lease_signal_.get(), &signal, sizeof(signal)) <= 0) return false;
  for (File& file : files_) {
    // While somebody waits for a file, its lease is shown as given up.
    if (!file.is_leased || fcntl(file.found.file->fd(), F_GETLEASE) != F_UNLCK) continue;
    file.is_leased = false;
    file.makes_way = true;
    file.makes_way_at = Clock::now();
    given_up_.push_back(file.found.file);
  }
  return !given_up_.empty();
}

void KnownFiles::let_writers_in() {
  for (const ProbeFilePointer& file : std::exchange(given_up_, {})) give_up_lease(file->fd());
}

void KnownFiles::end_leases() {
  for (File& file : files_)
    if (std::exchange(file.is_leased, false)) given_up_.push_back(file.found.file);
  let_writers_in();
  lease_signal_.reset();
}

const KnownFiles::File* KnownFiles::held(const ProbeFile& file) const {
  const auto found =
      std::find_if(files_.begin(), files_.end(), [&](const File& known) { return known.found.file.get() == &file; });
  return found == files_.end() ? nullptr : &*found;
}

bool KnownFiles::is_held(const ProbeFile& file) const { return held(file) != nullptr; }

bool KnownFiles::may_be_attached(const ProbeFile& file) const {
  const File* known = held(file);
  return known != nullptr && !known->makes_way;
}

std::vector<KnownFiles::Found> KnownFiles::files_that(bool make_way) const {
  std::vector<Found> result;
  for (const File& file : files_)
    if (!file.found.file->probes().empty() && file.makes_way == make_way) result.push_back(file.found);
  return result;
}

std::vector<KnownFiles::Found> KnownFiles::added() const {
  std::vector<Found> result;
  for (const File& file : files_)
    if (file.is_added && !file.makes_way) result.push_back(file.found);
  return result;
}

}  // namespace nopspan::collector
