"""Programs in MultiPL-E's form, in every language that can be run, and how each must end.

A language has one function, `twice`, whose body is filled in: what comes before the body, what comes after it (the
tests), and a body for each ending. Hogs take memory in big blocks and touch all of it, so that they meet their limit
soon on any machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from codechoir.records import Status


@dataclass(frozen=True)
class Bodies:
    """The bodies of one language's `twice`."""

    before: str
    after: str
    right: str
    wrong: str  # another value
    fails: str  # breaks off
    unparsable: str
    loops: str
    hoards: str
    chatters: str  # writes for ever
    leaves: str  # with exit code 0, the tests not run
    mistyped: tuple[str, ...] = ()
    chatty: str = ""  # right, after 10 MB of output
    more: dict[str, Status] = field(default_factory=dict)

    def program(self, body: str) -> str:
        """prompt + completion + newline + tests"""
        return f"{self.before}{body}\n{self.after}"

    def endings(self) -> list[tuple[str, Status]]:
        """Every program and how it must end."""
        given = [
            (self.right, Status.PASSED),
            (self.wrong, Status.FAILED_ASSERTION),
            (self.fails, Status.RUNTIME_ERROR),
            (self.unparsable, Status.DOES_NOT_COMPILE),
            (self.loops, Status.TIME_OUT),
            (self.hoards, Status.OUT_OF_MEMORY),
            (self.chatters, Status.OUTPUT_LIMIT),
            (self.leaves, Status.RUNTIME_ERROR),
            *((body, Status.TYPE_ERROR) for body in self.mistyped),
            *self.more.items(),
        ]
        return [(self.program(body), status) for body, status in given]


LANGUAGES = {
    "python": Bodies(
        before="def twice(a: int) -> int:\n",
        after="def check(candidate):\n    assert candidate(2) == 4\n\ncheck(twice)\n",
        right="    return a * 2\n",
        wrong="    return a * 3\n",
        fails="    return a * absent\n",
        unparsable="    return a *\n",
        loops="    while a: pass\n",
        hoards="    x = []\n    while a: x.append(b'x' * 10_000_000)\n",
        chatters="    while a: print('x' * 99_999)\n",
        leaves="    raise SystemExit(0)\n",
        chatty="    for _ in range(100): print('x' * 99_999)\n    return a * 2\n",
        more={
            "    exec('def f(:')\n": Status.RUNTIME_ERROR,
            "    print('AssertionError: not really')\n    return a * 2\n": Status.PASSED,
            "    import os\n    os._exit(0)\n": Status.RUNTIME_ERROR,
            "    import sys, io\n    sys.stdout = sys.stderr = io.StringIO()\n    return a * 2\n": Status.PASSED,
            "    return input()\n": Status.RUNTIME_ERROR,
            "    return len(bytearray(1 << 40))\n": Status.OUT_OF_MEMORY,
        },
    ),
    "cpp": Bodies(
        before="#include<assert.h>\n#include<bits/stdc++.h>\nlong twice(long a) {\n",
        after="}\nint main() {\n    auto candidate = twice;\n    assert(candidate((2)) == (4));\n}\n",
        right="    return a * 2;",
        wrong="    return a * 3;",
        fails="    return *(volatile long *)0;",
        unparsable="    return a * ;",
        mistyped=('    return std::string("4");', "    return a * absent;"),
        loops="    for (volatile long i = 0;; i++);",
        hoards="    for (;;) memset(malloc(10000000), 1, 10000000), a++;\n    return a;",
        chatters='    for (;;) puts("a line of some length, again and again and again and again");',
        leaves="    exit(0);",
        chatty='    for (long i = 0; i < 200000; i++) puts("fifty characters, for a total of ten million bytes");\n'
        "    return a * 2;",
        more={
            "    std::vector<char> x(1L << 40); return x.size();": Status.OUT_OF_MEMORY,
            "    return a * 2;\n}\n__attribute__((destructor)) void late() { _exit(3);": Status.RUNTIME_ERROR,
        },
    ),
    "java": Bodies(
        before=(
            "import java.util.*;\nimport java.lang.reflect.*;\nimport org.javatuples.*;\nclass Problem {\n"
            "    public static long twice(long a) {\n"
        ),
        after="    }\n    public static void main(String[] args) {\n    assert(twice((2l)) == (4l));\n    }\n\n}\n",
        right="        return a * 2;",
        wrong="        return a * 3;",
        fails="        return 1 / (a - 2);",
        unparsable="        return a * ;",
        mistyped=('        return "4";', "        return a * absent;", "        if (a == 3) return a;"),
        loops="        while (a == 2) {} return 1;",
        hoards=(
            "        var x = new ArrayList<byte[]>();\n        while (a == 2) x.add(new byte[10000000]);\n"
            "        return 1;"
        ),
        chatters='        while (a == 2) System.out.println("x".repeat(99999));\n        return 1;',
        leaves="        System.exit(0);\n        return 1;",
        chatty='        for (int i = 0; i < 100; i++) System.out.println("x".repeat(99999));\n        return a * 2;',
    ),
    "javascript": Bodies(
        before="function twice(a){\n",
        after=(
            "}\nconst assert = require('node:assert');\n\n\nfunction test() {\n  let candidate = twice;\n"
            "  assert.deepEqual(candidate(2),4);\n}\n\ntest();\n"
        ),
        right="  return a * 2;",
        wrong="  return a * 3;",
        fails="  return a * absent;",
        unparsable="  return a * ;",
        loops="  while (a);\n  return a;",
        hoards="  let x = []; while (a) x.push(new Uint8Array(10000000).fill(1));\n  return a;",
        chatters="  while (a) { try { require('fs').writeSync(1, 'x'.repeat(9999)); } catch { } }\n  return a;",
        leaves="  process.exit(0);",
        chatty="  for (let i = 0; i < 100; i++) console.log('x'.repeat(99999));\n  return a * 2;",
        more={
            "  setTimeout(() => process.exit(3));\n  return a * 2;": Status.RUNTIME_ERROR,
            "  eval('let b = ;');": Status.RUNTIME_ERROR,
        },
    ),
    "typescript": Bodies(
        before="function twice(a: number): number {\n",
        after=(
            "}\ndeclare var require: any;\nconst assert = require('node:assert');\n\n\nfunction test() {\n"
            "  let candidate = twice;\n  assert.deepEqual(candidate(2),4);\n}\n\ntest();\n"
        ),
        right="  return a * 2;",
        wrong="  return a * 3;",
        fails="  return (a as any).b.c;",
        unparsable="  return a * ;",
        mistyped=('  return "4";', "  return a * absent;"),
        loops="  while (a);\n  return a;",
        hoards="  let x = []; while (a) x.push(new Uint8Array(10000000).fill(1));\n  return a;",
        chatters="  while (a) { try { require('fs').writeSync(1, 'x'.repeat(9999)); } catch { } }\n  return a;",
        leaves="  (globalThis as any).process.exit(0);\n  return a;",
        chatty="  for (let i = 0; i < 100; i++) console.log('x'.repeat(99999));\n  return a * 2;",
        more={
            # Nothing strict: neither the types nor the script.
            "  let b; b = null; const c: number = b;\n  return a * 2;": Status.PASSED,
            "  const c: any = 'text'; c[0] = 'b';\n  return a * 2;": Status.PASSED,
            "  function f(b) { return b; }\n  return f(a) * 2;": Status.PASSED,
        },
    ),
    "go": Bodies(
        before='package twice_test\n\nimport (\n    "testing"\n    "fmt"\n    "os"\n)\n\nfunc twice(a int) int {\n',
        after=(
            "}\n\nvar _ = os.Args\n\nfunc TestTwice(t *testing.T) {\n"
            "  candidate := twice\n\ttype test struct {\n\t\tactual   interface{}\n"
            "\t\texpected interface{}\n\t}\n   tests := []test{\n     { actual: candidate(2), expected: 4 },\n   }\n\n"
            '\tfor i, tc := range tests {\n\t\tt.Run(fmt.Sprintf("test num % d", i), func(t *testing.T) {\n'
            '\t\t\tif fmt.Sprintf("%v", tc.actual) != fmt.Sprintf("%v", tc.expected) {\n'
            "\t\t\t\tt.Errorf(\"expected '%s', got '%s'\", tc.expected, tc.actual)\n\t\t\t}\n\t\t})\n\t}\n}\n\n"
        ),
        right="    return a * 2",
        wrong="    return a * 3",
        fails="    return 1 / (a - 2)",
        unparsable="    return a * ",
        mistyped=(
            '    return "4"',
            "    return a * absent",
            "    b := a\n    return a * 2",
            '    fmt.Printf("%d", "x")\n    return 4',
        ),
        loops="    for a > 0 {\n    }\n    return a",
        hoards=(
            "    x := [][]byte{}\n    for a > 0 {\n        y := make([]byte, 10000000)\n        for i := range y {\n"
            "            y[i] = 1\n        }\n        x = append(x, y)\n    }\n    return len(x)"
        ),
        chatters='    for a > 0 {\n        fmt.Println("a line of some length, again and again")\n    }\n    return a',
        leaves="    os.Exit(0)\n    return a",
        chatty="    for i := 0; i < 200000; i++ {\n"
        '        fmt.Println("fifty characters, for a total of ten million bytes")\n'
        "    }\n    return a * 2",
    ),
    "rust": Bodies(
        before="fn twice(a: isize) -> isize {\n",
        after="}\n\nfn main() {\n    let candidate = twice;\n    assert_eq!(candidate(2), 4);\n}\n\n",
        right="    a * 2",
        wrong="    a * 3",
        fails="    let x: Vec<isize> = vec![a]; x[a as usize]",
        unparsable="    a * ",
        mistyped=("    String::new()", "    a * absent", "    let b = vec![a]; let c = b; b[0] + c[0]"),
        loops="    loop { if a == 3 { return a; } }",
        hoards="    let mut x = vec![]; while a == 2 { x.push(vec![1u8; 10000000]); } x.len() as isize",
        chatters='    while a == 2 { println!("a line of some length, again and again and again and again"); } a',
        leaves="    std::process::exit(0)",
        chatty='    for _ in 0..200000 { println!("fifty characters, for a total of ten million bytes"); } a * 2',
        more={"    let overflow: u8 = (a + 253) as u8; (overflow + 1) as isize + a * 2": Status.RUNTIME_ERROR},
    ),
    "php": Bodies(
        before="<?php\nfunction twice($a) {\n",
        after=(
            "}\nfunction candidate(...$args) {\n    return twice(...$args);\n}\n\nfunction test(): void {\n"
            '    if (candidate(2) !== 4) { throw new Exception("Test failed!"); }\n}\n\ntest();\n'
        ),
        right="    return $a * 2;",
        wrong="    return $a * 2.0;",
        fails="    return absent($a);",
        unparsable="    return $a * ;",
        loops="    while (true) {}",
        hoards='    $x = array(); while (true) { $x[] = str_repeat("x", 10000000); }',
        chatters='    while (true) { echo str_repeat("x", 9999); }',
        leaves="    exit(0);",
        chatty='    for ($i = 0; $i < 100; $i++) { echo str_repeat("x", 100000); }\n    return $a * 2;',
        more={"    return $a * 2;\n}\n?>\n": Status.RUNTIME_ERROR},
    ),
    "ruby": Bodies(
        before="def twice(a)\n",
        after=(
            "end\nrequire 'test/unit'\nclass TestHumanEval < Test::Unit::TestCase\n  def test_twice\n"
            "    candidate = method(:twice)\n    assert_equal(4, candidate.call(2))\n  end\nend\n"
        ),
        right="  a * 2",
        wrong="  a * 3",
        fails="  a * absent",
        unparsable="  a * (",
        loops="  while true do end",
        hoards="  x = []\n  while true do x << 'x' * 10_000_000 end",
        chatters="  while true do puts 'x' * 9999 end",
        leaves="  exit(0)",
        chatty="  100.times { puts 'x' * 99_999 }\n  a * 2",
        more={
            "  a * 2\nend\nif __FILE__ == $0\n  puts twice(3)": Status.PASSED,
            "  exit!(0)": Status.RUNTIME_ERROR,
            "  a * 2\nend\nexit(0)\ndef more": Status.RUNTIME_ERROR,
        },
    ),
    "perl": Bodies(
        before="sub twice {\n    my($a) = @_;\n",
        after=(
            "}\nuse Test::Deep;\n\n\nsub testhumaneval {\n    my $candidate = \\&twice;\n"
            '        if(eq_deeply($candidate->(2),4)) {\n        print "ok!" }else{\n        exit 1;\n        }\n}\n\n'
            "testhumaneval();\n"
        ),
        right="    return $a * 2;",
        wrong="    return $a * 3;",
        fails="    return absent($a);",
        unparsable="    return $a * ;",
        loops="    while (1) {}",
        hoards='    my @x; while (1) { push @x, "x" x 10000000; }',
        chatters='    while (1) { print "x" x 9999; }',
        leaves="    exit(0);",
        chatty='    for (1..100) { print "x" x 100000; }\n    return $a * 2;',
        more={"    return $a * 2;\n}\n__END__\n{": Status.RUNTIME_ERROR},
    ),
    "lua": Bodies(
        before="local function twice(a)\n",
        after=(
            "end\nlu = require('luaunit')\n\nfunction test_humaneval()\nlocal candidate = twice\n"
            "    lu.assertEquals(candidate(2), 4)\nend\n\nos.exit(lu.LuaUnit.run())"
        ),
        right="    return a * 2",
        wrong="    return a * 3",
        fails="    return a * absent",
        unparsable="    return a *",
        loops="    while true do end",
        hoards="    local x = {}; while true do x[#x + 1] = string.rep('x', 10000000) .. #x end",
        chatters="    while true do print(string.rep('x', 9999)) end",
        leaves="    os.exit(0)",
        chatty="    for i = 1, 100 do print(string.rep('x', 99999)) end\n    return a * 2",
        more={
            "    return a * 2\nend\nos.exit(0)\nlocal function more()": Status.RUNTIME_ERROR,
            "    return a * 2\nend\nos.exit(true)\nlocal function more()": Status.RUNTIME_ERROR,
        },
    ),
    "shell": Bodies(
        before="#!/bin/bash\n# $1 is an integer\ntwice() {\n",
        after=(
            '}\n\ncandidate() {\n    twice "$@"\n}\n\nset -e\nrun_test() {\n    [[ $(candidate "2") = "4" ]]\n}\n\n'
            "run_test\n"
        ),
        right="    echo $(($1 * 2))",
        wrong="    echo $(($1 * 3))",
        fails="    true\n}\nexit 3\nmore() {\n    true",
        unparsable="    if (",
        loops="    while true; do :; done",
        hoards='    x=x; while true; do x="$x$x"; done',
        chatters="    yes >&2",
        leaves="    true\n}\nexit 0\nmore() {\n    true",
        chatty="    head -c 10000000 /dev/zero >&2\n    echo $(($1 * 2))",
        more={"    true\n}\ncat <<END\n": Status.RUNTIME_ERROR},
    ),
    "r": Bodies(
        before="twice <- function(a) {\n",
        after=(
            "}\ntest_humaneval <- function() {\n    candidate <- twice\n"
            "    stopifnot(isTRUE(all.equal(candidate(2), 4)))\n}\ntest_humaneval()\n"
        ),
        right="    a * 2",
        wrong="    a * 3",
        fails="    a * absent",
        unparsable="    a * )",
        loops="    while (TRUE) {}",
        hoards="    x <- list(); i <- 1; while (TRUE) { x[[i]] <- rep(1, 1e6) + i; i <- i + 1 }",
        chatters="    line <- strrep('x', 9999); while (TRUE) cat(line)",
        leaves="    quit(status = 0)",
        chatty="    for (i in 1:100) cat(strrep('x', 100000))\n    a * 2",
    ),
    "racket": Bodies(
        before="#lang racket\n\n(define (twice a)\n",
        after=(
            "(require rackunit)\n\n(define (test-humaneval) \n\n  (let (( candidate twice))\n"
            "    (check-within (candidate 2) 4 0.001)\n    (check-within (candidate 3) 6 0.001)\n))\n\n(test-humaneval)"
        ),
        right="  (* a 2))",
        wrong="  4)",
        fails="  (+ a (car a)))",
        unparsable="  (* a 2",
        loops="  (let loop () (loop)))",
        hoards="  (let loop ([x '()]) (loop (cons (make-bytes 10000000 1) x))))",
        chatters="  (let loop () (write-string (make-string 9999 #\\x)) (loop)))",
        leaves="  (exit 0))",
        chatty="  (for ([i 100]) (write-string (make-string 100000 #\\x)))\n  (* a 2))",
        more={"  (* a no-such-name))": Status.DOES_NOT_COMPILE},
    ),
    "csharp": Bodies(
        before=(
            "using System;\nusing System.Numerics;\nusing System.Diagnostics;\nusing System.Collections.Generic;\n"
            "using System.Linq;\nusing System.Text;\nusing System.Security.Cryptography;\nclass Problem {\n"
            "    public static long Twice(long a) {\n"
        ),
        after=(
            "    }\n    public static void Main(string[] args) {\n    Debug.Assert(Twice((2L)) == (4L));\n    }\n\n}\n"
        ),
        right="        return a * 2;",
        wrong="        return a * 3;",
        fails="        return 1 / (a - 2);",
        unparsable="        return a * ;",
        mistyped=('        return "4";', "        return a * absent;", "        if (a == 3) return a;"),
        loops="        while (a == 2) {} return 1;",
        hoards=(
            "        var x = new List<byte[]>();\n"
            "        while (a == 2) { x.Add(Enumerable.Repeat((byte)1, 10000000).ToArray()); }\n        return 1;"
        ),
        chatters="        while (a == 2) Console.WriteLine(new string('x', 9999));\n        return 1;",
        leaves="        Environment.Exit(0);\n        return 1;",
        chatty="        for (int i = 0; i < 100; i++) Console.WriteLine(new string('x', 99999));\n"
        "        return a * 2;",
        more={"        try { Debug.Assert(a == 3); } catch { }\n        return a * 2;": Status.FAILED_ASSERTION},
    ),
    "d": Bodies(
        before="import std.math;\nlong twice(long a) \n{\n",
        after="}\nunittest\n{\n    alias candidate = twice;\n\n    assert(candidate(2L) == 4L);\n}\nvoid main(){}\n",
        right="    return a * 2;",
        wrong="    return a * 3;",
        fails="    long[] x = [a]; return x[a];",
        unparsable="    return a * ;",
        mistyped=('    return "4";', "    return a * absent;"),
        loops="    while (a == 2) {} return 1;",
        hoards="    ubyte[][] x; while (a == 2) { auto y = new ubyte[10_000_000]; y[] = 1; x ~= y; } return 1;",
        chatters='    import std.stdio; while (a == 2) writeln("a line of some length, again and again"); return 1;',
        leaves="    import core.stdc.stdlib; exit(0); return 1;",
        chatty='    import std.stdio, std.array; foreach (i; 0 .. 100) writeln(replicate("x", 99999)); return a * 2;',
    ),
    "scala": Bodies(
        before=(
            "import scala.math._\nimport scala.collection.mutable._\nobject Problem {\n"
            "    def twice(a : Long) : Long = {\n"
        ),
        after="    }\n    def main(args: Array[String]) = {\n    assert(twice((2l)) == (4l));\n    }\n\n}\n",
        right="        a * 2",
        wrong="        a * 3",
        fails="        1 / (a - 2)",
        unparsable="        a * )",
        mistyped=('        "4"', "        a * absent"),
        loops="        while (a == 2) {}\n        1",
        hoards=(
            "        val x = ListBuffer[Array[Byte]]()\n        while (a == 2) x += new Array[Byte](10000000)\n"
            "        1"
        ),
        chatters='        while (a == 2) println("x" * 9999)\n        1',
        leaves="        sys.exit(0)",
        chatty='        for (i <- 1 to 100) println("x" * 99999)\n        a * 2',
    ),
}
