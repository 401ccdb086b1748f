"""Checks LIFT on this machine, with its GPU if there is one: `lift gpu-check` (docs/gpu.md).

Each part is a process with a time limit. A part that fails does not stop the others. The results are one table and one
JSON file. Needs Python 3.10, torch and the programs `lift` and `lift-trainer`, and nothing else.
"""
