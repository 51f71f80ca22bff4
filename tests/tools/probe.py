#!/usr/bin/env python3
"""
probe.py CLAIM DIRECTORY [ARGUMENT...]: what a shell cannot perform or see, for the bats files.

A claim is a function of one of the modules below. It works inside DIRECTORY (its current directory,
entered before any change of user, so that the path above needs no permissions) and raises when what
it saw is not so.
"""

import os
import sys

import probe_attributes
import probe_data
import probe_names
import probe_regressions

MODULES = [probe_data, probe_attributes, probe_names, probe_regressions]


def main():
    claim, directory, arguments = sys.argv[1], sys.argv[2], sys.argv[3:]
    call = next(getattr(m, claim) for m in MODULES if getattr(m, claim, None) is not None)
    os.chdir(directory)
    call(*arguments)


if __name__ == "__main__":
    main()
