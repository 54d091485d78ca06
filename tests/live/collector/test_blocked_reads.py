# SPDX-License-Identifier: Apache-2.0
"""Any user can make reads of a process block forever, with a file on FUSE whose server never answers. Every command
must end, name the process, and lose nothing of the other processes."""

import os
import signal

import ability
import harness
from collector import Collector, CollectorTest
from followed import Followed, children_of
from harness import NOPSPAN, Program, nopspan, program_path
from hostile import Unanswered
from waiting import wait_until

VICTIM = program_path("traced_static")
WHY = "a read of it blocked"


class StoppedDisk(Unanswered):
    """A folder on a file system whose server is stopped, while a recorder runs that writes its metrics there."""

    def before_the_mount(self):
        command = [NOPSPAN, "record", "/dev/null", "--force", "--metrics", os.path.join(self.folder, "nopspan.prom")]
        self.recorder = Followed(command)
        self.recorder.wait_until_it_says("Recording\\.")

    def stop(self):
        os.kill(self.pid, signal.SIGSTOP)
        return self.recorder.stop(), "\n".join(self.recorder.said)

    def __exit__(self, failed, *rest):
        self.recorder.process.kill()
        os.kill(self.pid, signal.SIGCONT)
        super().__exit__(failed, *rest)


class BlockedReads(CollectorTest):
    def test_ps_names_the_process_and_shows_the_others(self):
        with Unanswered("headers") as hostile, Program("traced_static") as other:
            for _ in range(3):  # readers that cannot be killed do not prevent the next command
                listed = nopspan("ps")
                self.assertEqual(listed.returncode, 0, listed.stderr)
                self.assertRegex(listed.stderr, r"(?m)^nopspan: not examined: process %d \(unanswered\): %s"
                                 % (hostile.pid, WHY))
                self.assertRegex(listed.stdout, r"(?m)^ *%d .* down " % other.pid)

    def test_doctor_names_the_process(self):
        with Unanswered("headers") as hostile:
            checked = nopspan("doctor", hostile.pid)
            self.assertRegex(checked.stdout, r"(?m)^warning +process %d: unanswered: %s" % (hostile.pid, WHY))
            self.assertIn("\n", nopspan("doctor").stdout)

    def test_nothing_of_other_processes_is_lost(self):
        for what in ("headers", "buffer"):
            with self.subTest(what), Unanswered(what), Program("traced_static") as victim:
                with Collector("--max-age", "100ms", binary=VICTIM) as tracer:
                    tracer.wait_until_it_sees(victim)
                    for number in range(3):
                        victim.ask("span flushed")
                        # An open span keeps the thread from flushing, so its entries must be fetched.
                        victim.ask("begin open")
                        victim.ask("span fetched")
                        tracer.wait_for_names(victim.pid, {"fetched": number + 1})
                        victim.ask("end")
                    ledger = tracer.stop()
                self.assert_balanced(ledger)
                self.assert_nothing_lost(tracer.counts(victim.pid))

    def test_record_and_trace_end_in_time(self):
        recording = os.path.join(self.temporary_folder(), "spans.rec")
        for what in ("headers", "buffer"):
            with Unanswered(what) as hostile:
                commands = [Followed([NOPSPAN, *command, "--duration", "2s"])
                            for command in (("record", recording, "--force"), ("trace",))]
                for command in commands:
                    with self.subTest(what=what, command=command.command_line):
                        self.assertEqual(command.end(), 0, command.said)
                        if what == "headers":
                            self.assertRegex("\n".join(command.said), r"(?m)^nopspan: not read for a while, .*: %d unanswered "
                                             r"\d+ time" % hostile.pid)

    def test_metrics_on_a_disk_that_does_not_answer_are_given_up(self):
        with StoppedDisk("nothing", "allow_other") as disk:
            status, said = disk.stop()
            self.assertEqual(status, 0, said)
            self.assertIn("nopspan.prom: the disk is too slow", said)
            self.assertIn(" delivered", said)

    def test_a_killed_spawner_ends_the_command_with_its_account_and_a_message(self):
        # Other programs of this host may run with nopspan.
        command = [NOPSPAN, "record", "/dev/null", "--force", "--pid"]
        with Program("traced_static") as program, Followed([*command, str(program.pid)]) as recorder:
            recorder.wait_until_it_says("Recording\\.")
            os.kill(*children_of(recorder.tracer()), signal.SIGKILL)
            program.ask("span last")
            self.assertEqual(recorder.end(), 1)
            said = " ".join(recorder.said)
            self.assertIn("(nopspan-spawner) was killed", said)
            self.assertRegex(said, r"\b1 entry from 1 process: 1 delivered, none lost")

    def test_a_file_that_is_named_is_read_again_if_the_disk_is_slow(self):
        def is_read_again():
            command = [NOPSPAN, "record", "/dev/null", "--force", "--binary", program_path("traced_static")]
            with Followed(command) as recorder:
                tracer = wait_until(recorder.tracer, "the tracing process")
                spawner, = wait_until(lambda: children_of(tracer), "the process that starts readers")
                reader, = wait_until(lambda: children_of(spawner), "a reader", pause_s=0)
                os.kill(reader, signal.SIGSTOP)  # the recorder kills it
                recorder.wait_until_it_says("Recording\\.")
                self.assertEqual(recorder.stop(), 0)
            return any("files" in line for line in recorder.said if "not read for a while" in line)
        wait_until(is_read_again, "a reader to be stopped before it has read the file")


if __name__ == "__main__":
    if not os.path.exists("/dev/fuse"):
        ability.unable("no /dev/fuse: modprobe fuse")
    harness.main()
