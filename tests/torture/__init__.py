"""The campaign: thousands of runs under kills, full disks, odd names, damaged and hostile files.

    python -m tests.torture --seed 0 --runs full --out docs/reliability.md

Each run is judged by what its user would see:

    worked      done, and right
    clear       refused with exit code 1 or 2 and a text that names what is at fault
    leftover    files or processes stayed behind after the next run
    lost        something of the user's is gone, changed, or read where it must not be
    wrong       another answer, in silence
    unexpected  a traceback, exit code 70, another place blamed, or a process that died of itself
    hung        over its time limit

Only the command line and the public functions are used: `--project DIR` can be any checkout. What
was not possible on a machine (no file system may be mounted, no OpenVINO) is said as skipped.
"""
