// SPDX-License-Identifier: Apache-2.0
#include "host/file_leases.h"

#include "base/failure.h"

#include <fcntl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

namespace nopspan::collector {

void FileLeases::begin() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGIO);
  signal_.reset(signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!signal_) throw Failure("cannot wait for signals: " + errno_text(errno));
}

bool FileLeases::take_signal() {
  signalfd_siginfo signal{};
  return signal_ && read(signal_.get(), &signal, sizeof(signal)) > 0;
}

FileLeases::Result FileLeases::take(int file) {
  const f_owner_ex owner{F_OWNER_TID, gettid()};
  if (!signal_ || fcntl(file, F_SETOWN_EX, &owner) != 0) return Result::unavailable;
  if (fcntl(file, F_SETLEASE, F_RDLCK) == 0) return Result::leased;
  return errno == EAGAIN ? Result::open_for_writing : Result::unavailable;
}

bool FileLeases::is_wanted(int file) { return fcntl(file, F_GETLEASE) == F_UNLCK; }

void FileLeases::give_up(int file) { fcntl(file, F_SETLEASE, F_UNLCK); }

}  // namespace nopspan::collector
