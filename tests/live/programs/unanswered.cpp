// SPDX-License-Identifier: Apache-2.0
// A process of another user whose memory cannot be read, because it maps a file on FUSE and never answers a read.
//
// `unanswered FOLDER [OPTION]` mounts the file system on FOLDER as fusermount3 does for any user, and then becomes user
// nobody. OPTION is another mount option, such as allow_other.
// The first answer is "ready PID CONNECTION", the connection's number in fusectl. The commands put unreadable memory
// where the collector reads (one of them, then the end of stdin):
// headers  the first thread's header
// buffer   the buffer of a valid header
#include <nopspan/probes.h>
#include <nopspan/span.h>

#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <iostream>
#include <string>
#include <thread>

extern "C" {
extern __attribute__((visibility("hidden"))) nopspan_gate_page nopspan_gate;
}

namespace {

constexpr unsigned kNobody = 65534;
constexpr std::size_t kSize = std::size_t{1} << 16U;
constexpr std::uint64_t kForever = 100000;  // seconds

int server = -1;
unsigned long mark = 77;
nopspan_thread forged;

template <typename T>
void reply(const fuse_in_header& request, int error, const T& value) {
  std::array<char, sizeof(fuse_out_header) + sizeof(T)> bytes{};
  const fuse_out_header header{static_cast<std::uint32_t>(bytes.size()), error, request.unique};
  std::memcpy(bytes.data(), &header, sizeof(header));
  std::memcpy(bytes.data() + sizeof(header), &value, sizeof(T));
  if (write(server, bytes.data(), bytes.size()) < 0) std::cerr << "unanswered: " << std::strerror(errno) << "\n";
}

void refuse(const fuse_in_header& request) {
  const fuse_out_header header{sizeof(header), -ENOSYS, request.unique};
  if (write(server, &header, sizeof(header)) < 0) std::cerr << "unanswered: " << std::strerror(errno) << "\n";
}

// Node 1 is the folder, node 2 the only file, which has every name.
fuse_attr attributes(std::uint64_t node) {
  fuse_attr result{};
  result.ino = node;
  result.mode = node == 1 ? S_IFDIR | 0755U : S_IFREG | 0644U;
  result.nlink = 1;
  result.size = node == 1 ? 0 : kSize;
  result.blksize = 4096;
  return result;
}

void answer(const fuse_in_header& request) {
  switch (request.opcode) {
    case FUSE_INIT: {
      fuse_init_out out{};
      out.major = FUSE_KERNEL_VERSION;
      out.minor = 31;
      out.max_write = 4096;
      return reply(request, 0, out);
    }
    case FUSE_LOOKUP: {
      fuse_entry_out out{};
      out.nodeid = 2;
      out.attr_valid = out.entry_valid = kForever;
      out.attr = attributes(2);
      return reply(request, 0, out);
    }
    case FUSE_GETATTR: {
      fuse_attr_out out{};
      out.attr_valid = kForever;
      out.attr = attributes(request.nodeid);
      return reply(request, 0, out);
    }
    case FUSE_OPEN:
    case FUSE_OPENDIR:
      return reply(request, 0, fuse_open_out{});
    case FUSE_READ:
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
      return;
    default:
      return refuse(request);
  }
}

[[noreturn]] void fail(const char* what) {
  std::cerr << "unanswered: " << what << ": " << std::strerror(errno) << "\n";
  _exit(1);
}

void mount_at(const std::string& folder, const std::string& option) {
  server = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (server < 0) fail("/dev/fuse");
  const std::string user = std::to_string(kNobody);
  const std::string options =
      "fd=" + std::to_string(server) + ",rootmode=40000,user_id=" + user + ",group_id=" + user + option;
  if (mount("unanswered", folder.c_str(), "fuse", MS_NOSUID | MS_NODEV, options.c_str()) != 0) fail("mount");
}

void serve() {
  std::thread([] {
    alignas(fuse_in_header) static std::array<char, std::size_t{1} << 18U> bytes;
    while (true) {
      const ssize_t got = read(server, bytes.data(), bytes.size());
      if (got < 0 && errno != EINTR && errno != ENOENT) return;  // the connection was aborted
      if (got > 0) answer(*reinterpret_cast<const fuse_in_header*>(bytes.data()));
    }
  }).detach();
}

// Replaces the pages at `memory` with the file.
void map_file(const std::string& folder, void* memory) {
  const int file = open((folder + "/file").c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) fail("open");
  if (mmap(memory, kSize, PROT_READ, MAP_PRIVATE | MAP_FIXED, file, 0) == MAP_FAILED) fail("mmap");
  close(file);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) return 2;
  const std::string folder = argv[1];
  { const nopspan::Span span{"unanswered"}; }  // the library fills the gate's page
  void* memory = mmap(nullptr, kSize, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail("mmap");
  const auto address = reinterpret_cast<unsigned long>(memory);
  mount_at(folder, argc == 3 ? std::string(",") + argv[2] : "");
  if (setresgid(kNobody, kNobody, kNobody) != 0 || setresuid(kNobody, kNobody, kNobody) != 0) fail("setresuid");
  serve();
  map_file(folder, memory);
  struct stat status {};
  if (stat((folder + "/file").c_str(), &status) != 0) fail("stat");
  std::string command;
  std::cout << "ready " << getpid() << " " << minor(status.st_dev) << std::endl;
  std::getline(std::cin, command);
  forged.magic = NOPSPAN_THREAD_MAGIC;
  forged.size = sizeof(forged);
  forged.mark = mark;
  forged.sequence_id = 1;
  forged.next = 5;
  forged.bytes = 4096;
  forged.buffer = address;
  nopspan_gate.process_mark = reinterpret_cast<unsigned long>(&mark);
  if (command == "headers") nopspan_gate.threads = address;
  if (command == "buffer") nopspan_gate.threads = reinterpret_cast<unsigned long>(&forged);
  std::cout << "ok" << std::endl;
  std::getline(std::cin, command);
  _exit(0);  // without the library's end, which would read the list of threads
}
