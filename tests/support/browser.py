# SPDX-License-Identifier: Apache-2.0
"""A browser for tests: Debian's Chromium, by Debian's Selenium."""

import sys

sys.path.append("/usr/lib/python3/dist-packages")  # the Python that runs this need not be Debian's
from selenium import webdriver  # noqa: E402  pylint: disable=wrong-import-position
from selenium.webdriver.chrome.service import Service  # noqa: E402  pylint: disable=wrong-import-position
from selenium.webdriver.common import utils  # noqa: E402  pylint: disable=wrong-import-position


class Driver(Service):
    """Selenium looks up "localhost", as its driver does without the pipe below. A bare Debian has no /etc/hosts."""

    @property
    def service_url(self):
        return f"http://127.0.0.1:{self.port}"

    def is_connectable(self):
        return utils.is_connectable(self.port, "127.0.0.1")


def chrome(*arguments):
    """The caller calls quit()."""
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--remote-debugging-pipe", *arguments):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(service=Driver("/usr/bin/chromedriver"), options=options)
