# SPDX-License-Identifier: GPL-2.0
"""One boot of one scenario, from its files to its verdict."""

import os
import shlex
import shutil
import time

from . import accel, console, expected, guest, initramfs, machine, qmp, report, verdict
from .progress import Progress


# Of a guest that finds no timer: then it is taken as it is.
BOOTS = 10


def _result_folder(out, name):
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in range(100):
        folder = out / (f"{name}-{stamp}" + (f".{number}" if number else ""))
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            continue
    for link in (out / "latest", out / f"{name}-latest"):
        if link.is_symlink() or not link.exists():
            # In one step, beside another boot.
            new = folder / link.name
            os.symlink(folder.name, new)
            os.replace(new, link)
    return folder


class Run:
    """A boot, and what was kept of it."""

    def __init__(self, scenario, plan, wanted, detector, args, job=None, extra=()):
        self.scenario = scenario
        self.name = job.name if job else scenario.name
        self._job = job
        self._extra = extra
        self._plan = plan
        self._wanted = wanted
        self._detector = detector
        self._args = args
        self.accel = self.why = self.folder = None
        self.seconds = 0.0

    def go(self):
        """Boots, judges, and keeps the logs."""
        scen, args = self.scenario, self._args
        started = time.monotonic()
        self.folder = _result_folder(args.out, self.name)
        initrd = self.folder / "initrd.cpio"
        initramfs.write(initrd, scen, self._plan, args.objdump, self._extra)
        self.accel, self.why = accel.choose(scen)
        argv = machine.command(scen, self.accel, initrd)
        (self.folder / "qemu-cmd").write_text(shlex.join(argv) + "\n", encoding="utf-8")
        shutil.copyfile(scen.kdir / ".config", self.folder / "config")
        progress = Progress(self.name)
        how = scen.settings
        for before in range(BOOTS):
            nmi = qmp.Injector(self.folder)
            data, ended, code, stderr = guest.boot(argv, self.folder, how["timeout_boot"],
                                                   self._seconds(), progress, nmi, before + 1 < BOOTS)
            if ended != verdict.NO_TIMER:
                break
            progress.step("boot, again: the host was too busy for the kernel to find its timer")
        result = verdict.judge(self.name, data, self._plan, self._wanted, self._detector, ended,
                               code, stderr, nmi)
        result.folder, result.before = self.folder, before
        if getattr(args, "write_expected", False):
            expected.add_skips(scen.name, result.unlisted)
        self.seconds = time.monotonic() - started
        progress.close(result.state)
        self._keep(data, result)
        if not args.keep:
            initrd.unlink()
        return result

    def _seconds(self):
        """How long the guest may take: a boot of a known length, on busy CPUs, thrice that, and not
        much longer than there is time."""
        if self._args.timeout:
            return self._args.timeout
        if self._job:
            seconds = max(300, 180 * self._job.minutes)
            return min(seconds, self._args.until - time.time() + 200) if self._args.until else seconds
        return self.scenario.settings[f"timeout_{self._args.verb}"]

    def _keep(self, data, result):
        log = console.dmesg(console.lines(data))
        (self.folder / "dmesg").write_text(log, encoding="utf-8")
        lines = report.header(1) + report.scenario(result, 1)
        lines.append(report.closing(report.totals([result])))
        (self.folder / "results.ktap").write_text("\n".join(lines) + "\n", encoding="utf-8")
