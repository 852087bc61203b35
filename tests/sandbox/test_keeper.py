"""A forked warm Python shows nothing that a plain `python3 -B main.py` does not, and output is counted rightly."""

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechoir.sandbox.cells import Cell
from codechoir.sandbox.isolation import open_sandbox
from codechoir.sandbox.jobs import KEPT_BYTES, Job, Step, StepLimits
from codechoir.sandbox.keeper import Output, packed, receive

PYTHON = "/usr/bin/python3"
LIMITS = StepLimits(cpu_seconds=5, wall_seconds=20.0, memory_mib=256)
PLAIN = Step(name="run", argv=(PYTHON, "-B", "main.py"), limits=LIMITS)
WARM = Step(name="run", argv=("main.py",), limits=LIMITS, warm_python=True)

PROGRAMS = {
    "nothing": "",
    "no newline": "print('x', end='')",
    "exit codes": "import sys\nsys.exit(7)",
    "exit with a text": "import sys\nsys.exit('the reason')",
    "exit with None": "raise SystemExit",
    "exit with an odd object": "raise SystemExit([1, 2])",
    "exit over 255": "raise SystemExit(300)",
    "exit builtin": "exit(3)",
    "os._exit loses what is buffered": "import os\nprint('lost')\nos._exit(4)",
    "exception": "def f(x):\n    return 1 / x\n\nf(0)",
    "exception of its own": "class Odd(Exception):\n    pass\nraise Odd('text', 3)",
    "chained": "try:\n    {}['a']\nexcept KeyError as error:\n    raise ValueError('b') from error",
    "in handling": "try:\n    {}['a']\nexcept KeyError:\n    [][1]",
    "group": "raise ExceptionGroup('many', [ValueError(1), TypeError(2)])",
    "note": "error = ValueError(1)\nerror.add_note('a note')\nraise error",
    "assertion": "assert [1, 2] == [2, 1], 'not the same'",
    "keyboard interrupt": "raise KeyboardInterrupt",
    "interrupts itself": "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nprint('not reached')",
    "kills itself": "import os\nos.kill(os.getpid(), 9)",
    "terminates itself": "import os\nos.kill(os.getpid(), 15)",
    "aborts": "import os\nos.abort()",
    "segfault": "import ctypes\nctypes.string_at(0)",
    "faulthandler": "import faulthandler\nprint(faulthandler.is_enabled())",
    "signals": "import signal\nprint([(s, signal.getsignal(s)) for s in signal.Signals if s not in (9, 19)])".replace(
        "signal.getsignal(s)", "str(signal.getsignal(s)).split(' at ')[0]"
    ),
    "mask": "import signal\nprint(signal.pthread_sigmask(signal.SIG_BLOCK, ()), signal.set_wakeup_fd(-1))",
    "broken pipe": "import os\nr, w = os.pipe()\nos.close(r)\nos.write(w, b'x')",
    "recursion": "def f(n):\n    return f(n + 1)\n\nf(0)",
    "recursion depth": (
        "import sys\ndef f(n):\n    try:\n        return f(n + 1)\n    except RecursionError:\n        return n\n"
        "print(f(0), sys.getrecursionlimit())"
    ),
    "deep stack": "import sys\nsys.setrecursionlimit(10**5)\ndef f(n):\n    return n and 1 + f(n - 1)\nprint(f(20000))",
    "atexit": "import atexit\natexit.register(print, 'one')\natexit.register(print, 'two')\nprint('three')",
    "atexit fails": "import atexit\natexit.register(lambda: 1 / 0)\nprint('x')",
    "threads": (
        "import threading, time\ndef work():\n    time.sleep(0.05)\n    print(threading.current_thread().name)\n"
        "threading.Thread(target=work).start()\nprint(threading.main_thread() is threading.current_thread())"
    ),
    "daemon thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
    "thread fails": "import threading\nt = threading.Thread(target=lambda: 1 / 0, name='t')\nt.start()\nt.join()",
    "unicode": "print('naïve 🐍 \\N{GREEK SMALL LETTER ALPHA}')",
    "surrogate": "print('\\ud800')",
    "latin-1 source": b"# coding: latin-1\nprint('\xe9')",
    "bad source bytes": b"print('\xe9')",
    "null in the source": b"print(1)\0\n",
    "byte order mark": b"\xef\xbb\xbfprint(1)",
    "syntax error": "def f(:\n    pass",
    "indentation error": "def f():\npass",
    "tab error": "if 1:\n        x = 1\n\ty = 2",
    "unclosed": "print((1, 2",
    "syntax warning": "x = 1\nprint(x is 1)",
    "deprecation warning": "import warnings\nwarnings.warn('old', DeprecationWarning)\nwarnings.warn('odd')",
    "invalid escape": "print('\\d')",
    "input": "print(input('? '))",
    "stdin": "import sys\nprint(repr(sys.stdin.read()), sys.stdin.fileno(), sys.stdin.isatty())",
    "streams": (
        "import sys\nfor s in (sys.stdin, sys.stdout, sys.stderr):\n"
        "    print(s.name, s.mode, s.encoding, s.errors, s.line_buffering, s.write_through, s.closed, s.isatty())"
    ),
    "order of the streams": "import sys\nprint('a')\nprint('b', file=sys.stderr)\nprint('c', flush=True)\nprint('d')",
    "much output": "for n in range(20000):\n    print(n)",
    "closed stdout": "import sys\nsys.stdout.close()\nprint('x')",
    "closed descriptors": "import os\nos.close(1)\nprint('x')",
    "stderr closed": "import sys\nsys.stderr.close()\n1 / 0",
    "stdout replaced": "import sys, io\nsys.stdout = io.StringIO()\nprint('lost')",
    "excepthook": "import sys\nsys.excepthook = lambda *a: print('hook', a[0])\n1 / 0",
    "annotations": "from __future__ import annotations\ndef f(x: Nothing) -> None: ...\nprint(f.__annotations__)",
    "future must come first": "x = 1\nfrom __future__ import annotations",
    "dataclass": "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nprint(P(3), P.__module__)",
    "pickle": (
        "import pickle\nclass P:\n    def __init__(self): self.x = 3\n"
        "print(pickle.loads(pickle.dumps(P())).x, P.__qualname__)"
    ),
    "main": (
        "import sys, __main__\nprint(__name__, __file__, __spec__, __package__, __doc__, __builtins__)\n"
        "print(__main__ is sys.modules['__main__'], sorted(vars()))"
    ),
    "docstring": '"""What this is."""\nprint(__doc__)',
    "inspect": (
        "import inspect\ndef f():\n    return 1  # a remark\nprint(inspect.getsource(f), inspect.stack()[-1].lineno)"
    ),
    "frames": (
        "import sys, traceback\nf = sys._getframe()\nprint(f.f_back, f.f_code.co_filename, f.f_lineno)\n"
        "traceback.print_stack()"
    ),
    "last exception": "import sys\nprint(sys.exc_info(), hasattr(sys, 'last_value'))",
    "context of an exception": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    print(e.__context__, e.__cause__)",
    "argv and path": "import sys\nprint(sys.argv, sys.orig_argv, sys.path, sys.flags, sys.warnoptions, sys._xoptions)",
    "executable": "import sys\nprint(sys.executable, sys.prefix, sys.version, sys.dont_write_bytecode, sys.platlibdir)",
    "importer cache": "import sys\nprint([p for p in sys.path_importer_cache if 'keeper' in p], sys.meta_path[-1])",
    "environment": "import os\nprint(sorted(os.environ.items()), os.getcwd(), os.umask(0))",
    "environment of a child": "import os\nos.system('env | sort | grep -v ^_=')",
    "modules": (
        "import sys\nprint([m for m in ('usercustomize', 'keeper', 'ctypes', '_ctypes', 'json', 'select', 'resource',\n"
        "    'signal', 'traceback', 'threading', 'linecache', 'tokenize', 'random', 'dataclasses', "
        "'inspect', 'logging',\n"
        "    'importlib.util', 'importlib.machinery', 'struct', 'gc') if m in sys.modules])"
    ),
    "own modules": "import helper\nprint(helper.x, helper.__file__)",
    "module named as one of ours": "import keeper",
    "usercustomize": "import usercustomize",
    "imports": (
        "import ctypes, json, select, resource, signal, traceback, gc, struct, time, random, decimal, datetime\n"
        "class S(ctypes.Structure):\n    _fields_ = [('a', ctypes.c_int), ('b', ctypes.POINTER(ctypes.c_char))]\n"
        "call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda x: x + 1)\n"
        "print(call(3), ctypes.sizeof(S), json.dumps([1]), ctypes.CDLL(None).abs(-3), signal.SIGINT, "
        "struct.pack('i', 1))"
    ),
    "descriptors": (
        "import os\n"
        "print(sorted(os.listdir('/proc/self/fd')), [os.readlink(f'/proc/self/fd/{n}')[:5] for n in (0, 1, 2)])"
    ),
    "process": (
        "import os\nprint(os.getpid() == os.getpgrp() == os.getsid(0), os.getppid(), os.getuid(), os.getgroups())"
    ),
    "limits": (
        "import resource as r\nprint([(n, r.getrlimit(getattr(r, n))) for n in dir(r) if n.startswith('RLIMIT_')])"
    ),
    "privileges": (
        "print([line for line in open('/proc/self/status') if line.startswith(('Cap', 'NoNew', 'Sec', 'Uid', 'Sig'))])"
    ),
    "memory": "x = bytearray(300 << 20)",
    "hashes": "print(hash('a'), hash(b'b'), [*{'x', 'y', 'z', 'w'}])",
    "random differs": "import random\nprint(random.Random(3).random(), random.seed(4), random.random())",
    "finalizers": (
        "class D:\n    def __del__(self): print('gone', self.n)\na, b = D(), D()\na.n, b.n = 1, 2\nb.self = b"
    ),
    "module finalizers": (
        "import sys\nclass D:\n    def __del__(self): print(sys.version_info[0])\nsys.modules['d'] = D()"
    ),
    "garbage": "import gc\nprint(gc.isenabled(), gc.get_threshold(), gc.garbage, gc.get_debug())",
    "generator left open": (
        "def g():\n    try:\n        yield 1\n    finally:\n        print('closed')\nx = g()\nnext(x)"
    ),
    "fork": "import os\nif os.fork() == 0:\n    os._exit(5)\nprint(os.waitstatus_to_exitcode(os.wait()[1]))",
    "subprocess": (
        "import subprocess, sys\nprint(subprocess.run([sys.executable, '-c', 'print(1)'], capture_output=True))"
    ),
    "multiprocessing": (
        "import multiprocessing as m\ndef f(x): return x * x\nif __name__ == '__main__':\n"
        "    with m.Pool(2) as pool:\n        print(pool.map(f, range(4)))"
    ),
    "asyncio": "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    return 3\nprint(asyncio.run(f()))",
    "unawaited": "async def f(): ...\nf()",
    "resource warning": "open('main.py')",
    "typing": "from typing import List, get_type_hints\ndef f(x: List[int]) -> 'int': ...\nprint(get_type_hints(f))",
    "settrace": "import sys\nprint(sys.gettrace(), sys.getprofile())",
    "site": "import site\nprint(site.ENABLE_USER_SITE, site.getusersitepackages(), quit, copyright is None)",
    "interactive names": "print(help, license)",
    "doctest": (
        'import doctest\ndef f(x):\n    """\n    >>> f(2)\n    5\n    """\n    return 4\nprint(doctest.testmod())'
    ),
    "unittest": (
        "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.fail('no')\n"
        "quiet = unittest.TextTestRunner(stream=open('/dev/null', 'w'))\nunittest.main(testRunner=quiet)"
    ),
    "runpy": "import runpy\nprint(runpy.run_path('helper.py')['x'])",
    "exec": "exec(compile('1 / 0', '<text>', 'exec'))",
    "deletes itself": "import os\nos.unlink('main.py')\n1 / 0",
    "rewrites itself": "open('main.py', 'w').write('# nothing\\n' * 3)\n1 / 0",
}


@pytest.fixture(scope="module")
def cell():
    with Cell(open_sandbox("bubblewrap"), PYTHON, ()) as cell:
        yield cell


def text(result):
    """A result's output without addresses, which differ from run to run."""
    return re.sub("0x[0-9a-f]{6,}", "0x", result.output.decode(errors="replace"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_warm_python_is_plain_python(cell, name):
    program = PROGRAMS[name]
    source = program if isinstance(program, bytes) else program.encode()
    files = {"main.py": source, "helper.py": b"x = 3\n"}
    plain, warm = (cell.run(Job(files=files, steps=(step,), marker=b"mark"))[0] for step in (PLAIN, WARM))
    assert text(warm) == text(plain)
    assert (warm.exit_code, warm.signal, warm.stopped) == (plain.exit_code, plain.signal, plain.stopped)


def test_warm_programs_draw_different_random_numbers(cell):
    job = Job(files={"main.py": b"import random\nprint(random.random())"}, steps=(WARM,), marker=b"")
    assert len({cell.run(job)[0].output for _ in range(3)}) == 3


@given(st.lists(st.integers(0, 3 * KEPT_BYTES), max_size=6))
def test_kept_output_is_the_beginning_and_the_end_however_it_arrives(sizes):
    output, whole = Output(KEPT_BYTES, b"mark"), b""
    for number, size in enumerate(sizes):
        chunk = bytes([65 + number]) * size
        output.add(chunk)
        whole += chunk
    if len(whole) <= 2 * KEPT_BYTES:
        assert output.content() == whole
    else:
        gap = f"\n[... {len(whole) - 2 * KEPT_BYTES} bytes left out ...]\n".encode()
        assert output.content() == whole[:KEPT_BYTES] + gap + whole[-KEPT_BYTES:]
    assert output.total == len(whole) and not output.marker_seen


@given(st.lists(st.binary(max_size=5), max_size=20), st.binary(min_size=1, max_size=3))
def test_the_marker_is_found_wherever_the_pieces_part_it(chunks, marker):
    output = Output(8, marker)
    for chunk in chunks:
        output.add(chunk)
    assert output.marker_seen == (marker in b"".join(chunks))


@given(st.dictionaries(st.text(max_size=5), st.integers()), st.binary(max_size=50))
def test_messages_arrive_as_they_were_sent(header, content):
    reading, writing = os.pipe()
    try:
        os.write(writing, packed(header, content) * 2)
        os.close(writing)
        assert receive(reading) == receive(reading) == (header, content)
        assert receive(reading) is None
    finally:
        os.close(reading)
