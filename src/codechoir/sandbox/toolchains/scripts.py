"""The toolchains of languages that an interpreter runs from the source: Python, Ruby, Perl, PHP, Lua, shell, R, Racket.

A file that the interpreter cannot parse "does not compile", though nothing is compiled: the remedy is the same.
"""

from __future__ import annotations

from codechoir.records import Status
from codechoir.sandbox.toolchains.toolchain import Failure, Known, Toolchain

PYTHON = Toolchain(
    language="python",
    programs=("python3",),
    packages=("python3",),
    version=("python3", "--version"),
    source="main.py",
    trailer='\n__import__("os").write(1, b"{head}" b"{tail}\\n")\n',
    run=("python3", "-B", "main.py"),
    warm=True,
    memory_limit="address-space",
    memory_overhead=64,
    processes=32,
    failures=(
        Failure(r"^AssertionError\b", Status.FAILED_ASSERTION),
        Failure(r"^MemoryError\b", Status.OUT_OF_MEMORY),
        # An error in the file itself has no traceback; one in text that the program evaluates has.
        Failure(r"(?s)\A(?!.*^Traceback).*^(SyntaxError|IndentationError|TabError): ", Status.DOES_NOT_COMPILE),
    ),
    good=(
        "from typing import List, Dict, Tuple\n\n"
        "def f(a: List[int], m: Dict[str, int]) -> Tuple[int, List[int]]:\n    return (sum(a) + m['x'], a)\n\n"
        "def check(candidate):\n    assert candidate([1, 2], { 'x': 5 }) == (8, [1, 2])\n\n"
        "def test_check():\n    check(f)\n\ntest_check()\n",
    ),
    bad=(
        Known("def f():\n    return [1]\n\nassert f() == [2]\n", Status.FAILED_ASSERTION),
        Known("def f(:\n    return 1\n", Status.DOES_NOT_COMPILE),
        Known("exit()\nassert False\n", Status.RUNTIME_ERROR),
    ),
)

_RUBY = (
    "def f(a, m)\n  [a.sum + m['x'], {%s}]\nend\nrequire 'test/unit'\nclass TestHumanEval < Test::Unit::TestCase\n"
    "  def test_f\n    candidate = method(:f)\n"
    '    assert_equal([8, {"y" => [1, nil]}], candidate.call([1, 2], {"x" => 5}))\n  end\nend\n'
)
RUBY = Toolchain(
    language="ruby",
    programs=("ruby",),
    packages=("ruby", "ruby-test-unit"),
    version=("ruby", "--version"),
    source="main.rb",
    # The tests run when the program ends, by a handler of test-unit's. This runs them in the same way, but tells.
    trailer=(
        "\nif defined?(Test::Unit::AutoRunner) && Test::Unit::AutoRunner.need_auto_run?\n"
        "  Test::Unit::AutoRunner.need_auto_run = false\n"
        "  exit(false) unless Test::Unit::AutoRunner.run\n"
        'end\n$stderr.syswrite("{head}" + "{tail}\\n")\n'
    ),
    # Without its package manager Ruby starts in a third of the time. The newest of the bundled packages are found.
    others=(
        (
            "bundled.rb",
            "$LOAD_PATH.concat(Dir['/usr/{lib/ruby/gems,share/rubygems-integration}/*/gems/*/lib']\n"
            "  .group_by { |path| path[%r{([^/]+)-[^-/]+/lib\\z}, 1] }.values\n"
            "  .map { |paths| paths.max_by { |path| path[%r{-([^-/]+)/lib\\z}, 1].split('.').map(&:to_i) } })\n",
        ),
    ),
    run=("ruby", "--disable=gems", "-r./bundled.rb", "main.rb"),
    memory_limit="address-space",
    memory_overhead=128,
    processes=32,
    failures=(
        Failure(r"NoMemoryError|failed to allocate memory", Status.OUT_OF_MEMORY),
        Failure(r"^Error: ", Status.RUNTIME_ERROR),
        Failure(r"^Failure: ", Status.FAILED_ASSERTION),
        Failure(r"^(ruby: )?main\.rb:(\d+:| --) .*(syntax error|\(SyntaxError\))", Status.DOES_NOT_COMPILE),
    ),
    good=(_RUBY % '"y" => [1, nil]', "require 'prime'\nrequire 'set'\nraise unless Prime.first(2) == [2, 3]\n"),
    bad=(
        Known(_RUBY % '"y" => [2, nil]', Status.FAILED_ASSERTION),
        Known(_RUBY % '"y" => absent', Status.RUNTIME_ERROR),
        Known(_RUBY % '"y" => [', Status.DOES_NOT_COMPILE),
        Known(_RUBY % '"y" => exit', Status.RUNTIME_ERROR),
    ),
)

_PERL = (
    "sub f {\n    my($a, $m) = @_;\n    return [$a->[0] + $m->{'x'}, {'y' => %s}];\n}\nuse Test::Deep;\n\n\n"
    "sub testhumaneval {\n    my $candidate = \\&f;\n"
    '        if(eq_deeply($candidate->([1, 2], {"x" => 5}),[6, {"y" => [1, undef]}])) {\n'
    '        print "ok!" }else{\n        exit 1;\n        }\n}\n\ntesthumaneval();\n'
)
PERL = Toolchain(
    language="perl",
    programs=("perl",),
    packages=("perl", "libtest-deep-perl"),
    files=("/usr/share/perl5/Test/Deep.pm",),
    visible=("/etc/perl",),
    version=("perl", "-e", 'print "perl $^V\\n"'),
    source="main.pl",
    trailer='\n;CORE::syswrite(STDERR, "{head}" . "{tail}\\n");\n',
    run=("perl", "main.pl"),
    memory_limit="address-space",
    memory_overhead=64,
    processes=32,
    failures=(
        Failure(r"^Out of memory\b|^panic: memory", Status.OUT_OF_MEMORY),
        Failure(r"^syntax error at|compilation errors|^Missing right curly|^Unmatched", Status.DOES_NOT_COMPILE),
        Failure(r"^Can't locate .* in @INC", Status.RUNTIME_ERROR),
        Failure("", Status.FAILED_ASSERTION, exit_code=1),  # the tests say no more
    ),
    good=(_PERL % "[1, undef]",),
    bad=(
        Known(_PERL % "[2, undef]", Status.FAILED_ASSERTION),
        Known(_PERL % "absent()", Status.RUNTIME_ERROR),
        Known(_PERL % "[", Status.DOES_NOT_COMPILE),
        Known(_PERL % "exit(0)", Status.RUNTIME_ERROR),
    ),
)

_PHP = (
    '<?php\nfunction f($a, $m) {\n    return array(array_sum($a) + $m["x"], array("y" => %s));\n}\n'
    "function candidate(...$args) {\n    return f(...$args);\n}\n\nfunction test(): void {\n"
    '    if (candidate(array(1, 2), array("x" => 5)) !== array(8, array("y" => array(1, null)))) '
    '{ throw new Exception("Test failed!"); }\n}\n\ntest();\n'
)
PHP = Toolchain(
    language="php",
    programs=("php",),
    packages=("php-cli",),
    visible=("/etc/php",),  # which extensions it loads
    version=("php", "--version"),
    source="main.php",
    trailer='\n\\fwrite(\\STDERR, "{head}" . "{tail}\\n");\n',
    run=("php", "-d", "memory_limit={memory}M", "main.php"),
    memory_limit="address-space",
    memory_overhead=256,
    processes=32,
    failures=(
        Failure(r"Allowed memory size of \d+ bytes exhausted|Out of memory", Status.OUT_OF_MEMORY),
        Failure(r"Uncaught Exception: Test failed!", Status.FAILED_ASSERTION),
        Failure(r"^(PHP )?Parse error:", Status.DOES_NOT_COMPILE),
    ),
    good=(_PHP % "array(1, null)", "<?php\nif (!ctype_alpha('ab') || json_encode([1]) !== '[1]') { exit(1); }\n"),
    bad=(
        Known(_PHP % "array(1, 0)", Status.FAILED_ASSERTION),
        Known(_PHP % "absent()", Status.RUNTIME_ERROR),
        Known(_PHP % "array(", Status.DOES_NOT_COMPILE),
        Known(_PHP % "exit(0)", Status.RUNTIME_ERROR),
    ),
)

_LUA = (
    "local function f(a, m)\n    return {a[1] + m.x, {y = %s}}\nend\nlu = require('luaunit')\n\n"
    "function test_humaneval()\nlocal candidate = f\n"
    '    lu.assertEquals(candidate({1, 2}, {["x"] = 5}), {6, {["y"] = {1, "b"}}})\nend\n\n'
    "os.exit(lu.LuaUnit.run())\n"
)
LUA = Toolchain(
    language="lua",
    programs=("lua5.4",),
    packages=("lua5.4", "lua-unit"),
    files=("/usr/share/lua/5.4/luaunit.lua",),
    version=("lua5.4", "-v"),
    source="main.lua",
    # The tests leave by `os.exit`, so nothing after them would run.
    rewrite=(r"os\.exit\((lu\.LuaUnit\.run\(\))\)\s*\Z", r"codechoir_failures = \1"),
    trailer=(
        '\nif (codechoir_failures or 0) == 0 then io.stderr:write("{head}" .. "{tail}\\n") end\n'
        "os.exit(codechoir_failures or 0)\n"
    ),
    run=("lua5.4", "main.lua"),
    memory_limit="address-space",
    memory_overhead=64,
    processes=32,
    failures=(
        # Lua runs no error handler when it is out of memory, and luaunit trips over what it gets in its place.
        Failure(r"not enough memory|luaunit\.lua:\d+: attempt to index a string value", Status.OUT_OF_MEMORY),
        Failure(r"^Tests with errors:", Status.RUNTIME_ERROR),
        Failure(r"^Failed tests:", Status.FAILED_ASSERTION),
        Failure(
            r"^\S*lua\S*: main\.lua:\d+: (?!.*\battempt to).* (near|expected|unfinished|visible|loop|jumps|defined)\b",
            Status.DOES_NOT_COMPILE,
        ),
    ),
    good=(_LUA % '{1, "b"}',),
    bad=(
        Known(_LUA % "{1}", Status.FAILED_ASSERTION),
        Known(_LUA % "absent()", Status.RUNTIME_ERROR),
        Known(_LUA % "{", Status.DOES_NOT_COMPILE),
        Known(_LUA % "os.exit(0)", Status.RUNTIME_ERROR),
    ),
)

_SHELL = (
    '#!/bin/bash\nf() {\n    local sum=0; for x in $1; do sum=$((sum + x)); done\n    echo "$sum $2"%s\n}\n\n'
    'candidate() {\n    f "$@"\n}\n\nset -e\nrun_test() {\n    [[ $(candidate "1 2" "x") = "3 x" ]]\n}\n\nrun_test\n'
)
SHELL = Toolchain(
    language="shell",
    programs=("bash",),
    packages=("bash",),
    version=("bash", "--version"),
    source="main.sh",
    trailer=(
        "\n{ codechoir_code=$?; [[ \"$codechoir_code\" = 0 ]] && builtin printf '%s%s\\n' {head} {tail} >&2; "
        'exit "$codechoir_code"; }\n'
    ),
    run=("bash", "main.sh"),
    memory_limit="address-space",
    memory_overhead=64,
    processes=64,
    failures=(
        Failure(r": (xmalloc|xrealloc|fork): .*[Cc]annot allocate", Status.OUT_OF_MEMORY),
        Failure(r"syntax error near|syntax error: unexpected end|unexpected EOF while", Status.DOES_NOT_COMPILE),
        Failure("", Status.FAILED_ASSERTION, exit_code=1),  # `set -e` says no more
    ),
    good=(_SHELL % "",),
    bad=(
        Known(_SHELL % "; echo more", Status.FAILED_ASSERTION),
        Known(_SHELL % "; if (", Status.DOES_NOT_COMPILE),
        Known("cat <<END\nset -e\n[[ 1 = 2 ]]\n", Status.RUNTIME_ERROR),  # prints the rest of its own text
    ),
)

_R = (
    "f <- function(a, m) {\n    list(sum(a) + m$x, %s)\n}\ntest_humaneval <- function() {\n    candidate <- f\n"
    '    stopifnot(isTRUE(all.equal(candidate(c(1, 2), list("x" = 5)), list(8, c("a", "b")))))\n}\ntest_humaneval()\n'
)
R = Toolchain(
    language="r",
    programs=("Rscript",),
    packages=("r-base-core",),
    visible=("/etc/R",),
    version=("Rscript", "--version"),
    source="main.R",
    trailer='\nbase::cat("{head}", "{tail}\\n", sep = "", file = base::stderr())\n',
    run=("Rscript", "main.R"),
    memory_limit="address-space",
    memory_overhead=512,
    processes=64,
    failures=(
        Failure(r"cannot allocate (vector|memory)|memory exhausted", Status.OUT_OF_MEMORY),
        Failure(r"^Error: (unexpected|invalid|unmatched)|INCOMPLETE_STRING", Status.DOES_NOT_COMPILE),
        Failure(r"^Error\b(?s:.{0,600}?)\bis not TRUE", Status.FAILED_ASSERTION),
    ),
    good=(_R % 'c("a", "b")',),
    bad=(
        Known(_R % '"a"', Status.FAILED_ASSERTION),
        Known(_R % "absent()", Status.RUNTIME_ERROR),
        Known(_R % "c(", Status.DOES_NOT_COMPILE),
        Known(_R % "quit(status = 0)", Status.RUNTIME_ERROR),
    ),
)

_RACKET = (
    '#lang racket\n\n(define (f a m)\n  (list (+ (apply + a) (hash-ref m "x")) %s))\n(require rackunit)\n\n'
    "(define (test-humaneval) \n\n  (let (( candidate f))\n"
    '    (check-within (candidate (list 1 2) #hash(("x" .  5))) (list 8 #hash(("y" .  1.5))) 0.001)\n))\n\n'
    "(test-humaneval)\n"
)
RACKET = Toolchain(
    language="racket",
    programs=("racket",),
    packages=("racket",),
    visible=("/etc/racket",),
    version=("racket", "--version"),
    source="main.rkt",
    # A failed check of rackunit's is only printed and counted.
    trailer=(
        "\n(require (only-in rackunit/log [test-log codechoir:log])\n         (only-in racket/base"
        " [write-string codechoir:write] [string-append codechoir:append] [zero? codechoir:zero?] [car codechoir:car]\n"
        "          [void codechoir:void] [if codechoir:if] [current-error-port codechoir:port]))\n"
        "(codechoir:if (codechoir:zero? (codechoir:car (codechoir:log #:display? #f #:exit? #f)))\n"
        '  (codechoir:void (codechoir:write (codechoir:append "{head}" "{tail}\\n") (codechoir:port)))\n'
        "  (codechoir:void))\n"
    ),
    run=("racket", "main.rkt"),
    memory_limit="data",
    memory_overhead=512,
    processes=32,
    failures=(
        Failure(r"^out of memory|out of memory$", Status.OUT_OF_MEMORY),
        Failure(
            r"^\S*main\.rkt:\d+:\d+: (read-syntax|\S+: unbound identifier|.*: bad syntax)", Status.DOES_NOT_COMPILE
        ),
        Failure(r"^ERROR$", Status.RUNTIME_ERROR),
        Failure(r"^FAILURE$", Status.FAILED_ASSERTION),
    ),
    good=(_RACKET % '(hash "y" 1.5)',),
    bad=(
        Known(_RACKET % '(hash "y" 2.5)', Status.FAILED_ASSERTION),
        Known(_RACKET % "(car a m)", Status.RUNTIME_ERROR),
        Known(_RACKET % "(list", Status.DOES_NOT_COMPILE),
        Known(_RACKET % "(exit 0)", Status.RUNTIME_ERROR),
    ),
)
