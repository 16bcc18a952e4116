"""One turn of a worker, recorded line by line: run by gdb for scripts/walk, which says what by environment.

Waits for SIGUSR1, stops at the next turn, and steps through it. Calls to libraries and to the kernel are not stepped
through: the vdso would never end, and nothing of ours is in there.
"""

import json
import os

import gdb

TURN, READY, RECORD, OUT = (os.environ[name] for name in ("WALK_TURN", "WALK_READY", "WALK_RECORD", "WALK_OUT"))
STEPS_MAX = 1_000_000


def quietly(command):
    gdb.execute(command, to_string=True)


for setting in ("pagination off", "confirm off", "print thread-events off", "debuginfod enabled off"):
    quietly(f"set {setting}")
quietly("handle SIGUSR1 stop nopass print")
quietly("handle SIGPIPE nostop noprint pass")
quietly(f"run echo --driver io-uring --workers 1 --listen 127.0.0.1:0 > {OUT}")
for symbol in TURN.split():
    quietly(f"break {symbol}")
with open(READY, "w", encoding="utf-8") as ready:
    ready.write("ready\n")
quietly("continue")
quietly("set scheduler-locking on")

program = gdb.selected_inferior()
name = gdb.current_progspace().filename
with open(f"/proc/{program.pid}/maps", encoding="utf-8") as maps:
    code = [line.split() for line in maps if line.rstrip().endswith(name)]
code = [tuple(int(end, 16) for end in fields[0].split("-")) for fields in code if "x" in fields[1]]


def is_ours(address):
    return any(start <= address < end for start, end in code)


record, known = [], {}
frame = gdb.selected_frame()
top = int(frame.read_register("sp"))
for _ in range(STEPS_MAX):
    frame = gdb.selected_frame()
    pc, sp = frame.pc(), int(frame.read_register("sp"))
    # The turn has returned: its frame and its return address are gone.
    if sp > top + 8:
        break
    if not is_ours(pc):
        back = int.from_bytes(bytes(program.read_memory(sp, 8)), "little")
        if is_ours(back):
            quietly(f"tbreak *{back}")
            quietly("continue")
        else:
            quietly("stepi")
        continue
    if pc not in known:
        place = gdb.find_pc_line(pc)
        known[pc] = (place.symtab.filename if place.symtab else "", place.line)
    file, line = known[pc]
    if record and record[-1][:2] == [file, line]:
        record[-1][2:] = min(record[-1][2], sp), max(record[-1][3], sp)
    else:
        record.append([file, line, sp, sp])
    quietly("stepi")
with open(RECORD, "w", encoding="utf-8") as out:
    json.dump(record, out)
quietly("kill")
quietly("quit")
