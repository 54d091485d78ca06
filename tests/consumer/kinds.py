# SPDX-License-Identifier: Apache-2.0
"""The ways to use nopspan in a project: how each is built, which file to trace, and in which environment the program
runs."""
import glob
import os
import shlex

from surroundings import (CC, CMAKE, CXX, CXX_FLAGS, HERE, INSTALLED, LIBDIR, SOURCE, USDT, WARNINGS, abi, fresh, run, version)

PROGRAM = os.path.join(HERE, "program.cpp")


class Consumer:
    def __init__(self, program, traced, environment=None):
        self.program = program
        self.traced = traced  # the file whose probes a tracer attaches to
        self.environment = {**os.environ, **(environment or {})}


def installed_library():
    return os.path.join(LIBDIR, f"libnopspan.so.{abi()}")


def configure(project, *options):
    folder = fresh(project)
    run([CMAKE, "-S", os.path.join(HERE, "projects", project), "-B", folder, "-G", "Ninja", f"-DCMAKE_CXX_COMPILER={CXX}",
         f"-DCMAKE_C_COMPILER={CC}", f"-DNOPSPAN_CONSUMER_PROGRAM={PROGRAM}", *options])
    run([CMAKE, "--build", folder])
    return os.path.join(folder, "program")


def with_package(project):
    """find_package() of the installed tree."""
    return configure(project, f"-DCMAKE_PREFIX_PATH={INSTALLED}", f"-DCMAKE_CXX_FLAGS={CXX_FLAGS} {WARNINGS}",
                     f"-DNOPSPAN_WANTED_VERSION={'.'.join(version())}")


def shared():
    return Consumer(with_package("shared"), installed_library())


def static():
    program = with_package("static")
    return Consumer(program, program)


def no_exceptions():
    return Consumer(with_package("no_exceptions"), installed_library())


def subdirectory():
    """add_subdirectory() of the source tree. The library decides on its own warnings: the project's -Werror does not
    apply to it."""
    program = configure("subdirectory", f"-DNOPSPAN_SOURCE={SOURCE}", f"-DNOPSPAN_USDT={USDT}",
                        "-DCMAKE_UNITY_BUILD=ON", f"-DCMAKE_CXX_FLAGS={CXX_FLAGS}")
    library, = glob.glob(os.path.join(os.path.dirname(program), "nopspan", "libnopspan.so.*.*"))
    return Consumer(program, library)


def pkg_config(package, *arguments):
    """pkg-config's flags for the installed tree, which need not be at the path that it was configured for."""
    environment = {**os.environ, "PKG_CONFIG_PATH": os.path.join(LIBDIR, "pkgconfig")}
    return shlex.split(run(["pkg-config", *arguments, package], env=environment))


def link(package, program, *options):
    """The command that builds the program with the flags of pkg-config."""
    return [CXX, "-std=c++17", *shlex.split(CXX_FLAGS), *shlex.split(WARNINGS), *options, *pkg_config(package, "--cflags"),
            PROGRAM, "-o", program, *pkg_config(package, "--libs")]


def with_pkg_config(package):
    program = os.path.join(fresh(package), "program")
    run(link(package, program))
    return program


def pkg_config_shared():
    return Consumer(with_pkg_config("nopspan"), installed_library(), {"LD_LIBRARY_PATH": LIBDIR})


def pkg_config_static():
    program = with_pkg_config("nopspan-static")
    return Consumer(program, program)


KINDS = {kind.__name__: kind
         for kind in (shared, static, no_exceptions, subdirectory, pkg_config_shared, pkg_config_static)}
