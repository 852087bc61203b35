"""The toolchains of languages that are compiled to programs of the machine's own: C++, Rust, D, Go.

Where the linker starts the program, its `--wrap` sends the start-up code to a `main` of the trailer's, which calls the
program's: so the end of `main` is told from a call of `exit`.
"""

from __future__ import annotations

from codechoir.records import Status
from codechoir.sandbox.toolchains.toolchain import Failure, Known, Toolchain

_CPP = (
    "#include<assert.h>\n#include<bits/stdc++.h>\n"
    "std::tuple<long, std::vector<long>> f(std::vector<long> a, std::map<std::string,long> m) {\n"
    '    return std::make_tuple(a[0] + m["x"], %s);\n}\nint main() {\n    auto candidate = f;\n'
    "    assert(candidate((std::vector<long>({(long)1, (long)2})), "
    '(std::map<std::string,long>({{"x", 5}}))) == (std::make_tuple(6, std::vector<long>({(long)1, (long)2}))));\n}\n'
)
CPP = Toolchain(
    language="cpp",
    programs=("g++",),
    packages=("g++",),
    version=("g++", "--version"),
    source="main.cpp",
    trailer=(
        '\nextern "C" int __real_main(int, char **);\n'
        'extern "C" int codechoir_print(int, const char *, ...) __asm__("dprintf");\n'
        'extern "C" int __wrap_main(int count, char **arguments) {\n'
        "    int code = __real_main(count, arguments);\n"
        '    if (code == 0) codechoir_print(2, "%s%s\\n", "{head}", "{tail}");\n    return code;\n}\n'
    ),
    compile=("g++", "-std=c++17", "-w", "-Wl,--wrap=main", "-o", "main", "main.cpp"),
    run=("./main",),
    memory_limit="address-space",
    memory_overhead=64,
    processes=32,
    failures=(
        Failure(r"std::bad_alloc|std::bad_array_new_length", Status.OUT_OF_MEMORY),
        Failure(r"^main: main\.cpp:\d+: .*: Assertion `.*' failed\.$", Status.FAILED_ASSERTION),
    ),
    compile_failures=(
        Failure(
            r": error: (expected|stray|missing terminating|unterminated|a function-definition is not allowed|extra"
            r"|.* at end of input|invalid digit|unable to find|'else' without|case label|too many decimal|empty char)",
            Status.DOES_NOT_COMPILE,
        ),
        Failure(r": error: ", Status.TYPE_ERROR),
    ),
    good=(_CPP % "a",),
    bad=(
        Known(_CPP % "std::vector<long>()", Status.FAILED_ASSERTION),
        Known(_CPP % "(abort(), a)", Status.RUNTIME_ERROR),
        Known(_CPP % "1", Status.TYPE_ERROR),
        Known(_CPP % "}", Status.DOES_NOT_COMPILE),
    ),
)

_RUST = (
    "use std::collections::HashMap;\n\n"
    "fn f(a: Vec<isize>, m: HashMap<String, isize>) -> (isize, Option<Vec<isize>>) {\n"
    '    (a[0] + m["x"], %s)\n}\n\nfn main() {\n    let candidate = f;\n'
    '    assert_eq!(candidate(vec![1, 2], HashMap::from([(String::from("x"), 5)])), (6, Some(vec![1, 2])));\n}\n\n'
)
RUST = Toolchain(
    language="rust",
    programs=("rustc", "cc"),
    packages=("rustc", "gcc"),
    version=("rustc", "--version"),
    source="main.rs",
    trailer=(
        'extern "C" {\n    #[link_name = "__real_main"]\n'
        "    fn codechoir_main(count: i32, arguments: *const *const u8) -> i32;\n"
        '    #[link_name = "dprintf"]\n    fn codechoir_print(file: i32, format: *const u8, ...) -> i32;\n}\n'
        '#[export_name = "__wrap_main"]\n'
        'pub extern "C" fn codechoir_wrapped(count: i32, arguments: *const *const u8) -> i32 {\n    unsafe {\n'
        "        let code = codechoir_main(count, arguments);\n        if code == 0 {\n"
        '            codechoir_print(2, b"%s%s\\n\\0".as_ptr(), b"{head}\\0".as_ptr(), b"{tail}\\0".as_ptr());\n'
        "        }\n        code\n    }\n}\n"
    ),
    compile=(
        "rustc",
        "--cap-lints",
        "warn",
        "-A",
        "warnings",
        "-C",
        "link-arg=-Wl,--wrap=main",
        "-o",
        "main",
        "main.rs",
    ),
    run=("./main",),
    memory_limit="address-space",
    memory_overhead=64,
    processes=32,
    failures=(
        Failure(r"^memory allocation of \d+ bytes failed", Status.OUT_OF_MEMORY),
        Failure(r"panicked at (?s:.{0,200}?)assertion .*failed", Status.FAILED_ASSERTION),
    ),
    compile_failures=(
        Failure(r"^error: (?!aborting|could not compile)", Status.DOES_NOT_COMPILE),
        Failure(r"^error\[E\d+\]: ", Status.TYPE_ERROR),
    ),
    good=(_RUST % "Some(a)",),
    bad=(
        Known(_RUST % "None", Status.FAILED_ASSERTION),
        Known(_RUST % "Some(vec![a[9]])", Status.RUNTIME_ERROR),
        Known(_RUST % "1", Status.TYPE_ERROR),
        Known(_RUST % "Some(", Status.DOES_NOT_COMPILE),
    ),
)

_D = (
    "import std.math;\nimport std.typecons;\nNullable!(long[string]) f(long[] a) \n{\n"
    '    long[string] m; m["x"] = a[0]; return %s;\n}\nunittest\n{\n    alias candidate = f;\n\n{\n'
    '        auto result = candidate([1L, 2L]);\n        assert(!result.isNull && result.get == ["x": 1L]);\n}\n\n'
    "    assert(tuple(1L, [2L]) == tuple(1L, [2L]));\n}\nvoid main(){}\n"
)
D = Toolchain(
    language="d",
    programs=("ldc2", "cc"),
    packages=("ldc", "gcc"),
    visible=("/etc/ldc2.conf",),
    version=("ldc2", "--version"),
    source="main.d",
    trailer=(
        "\nextern (C) int __real_main(int count, char** arguments);\n"
        "extern (C) int __wrap_main(int count, char** arguments)\n{\n"
        "    import core.stdc.stdio : fprintf, stderr;\n    int code = __real_main(count, arguments);\n"
        '    if (code == 0)\n        fprintf(stderr, "%s%s\\n", "{head}".ptr, "{tail}".ptr);\n    return code;\n}\n'
    ),
    compile=("ldc2", "-unittest", "-main", "-L--wrap=main", "-of=main", "main.d"),
    run=("./main",),
    memory_limit="address-space",
    memory_overhead=64,
    processes=32,
    failures=(
        Failure(r"OutOfMemoryError|Memory allocation failed", Status.OUT_OF_MEMORY),
        Failure(r"\[unittest\] |AssertError", Status.FAILED_ASSERTION),
    ),
    compile_failures=(
        Failure(
            r"^main\.d\(\d+\): Error: (found `|.*\bexpect(ed|ing)\b|unterminated|unmatched|matching|use `|"
            r"character|missing closing|semicolon)",
            Status.DOES_NOT_COMPILE,
        ),
        Failure(r"^main\.d\(\d+\): Error: ", Status.TYPE_ERROR),
    ),
    good=(_D % "m.nullable",),
    bad=(
        Known(_D % "typeof(return).init", Status.FAILED_ASSERTION),
        Known(_D % "(a[9] ? m : m).nullable", Status.RUNTIME_ERROR),
        Known(_D % "1", Status.TYPE_ERROR),
        Known(_D % "", Status.DOES_NOT_COMPILE),
    ),
)

_GO = (
    'package f_test\n\nimport (\n    "testing"\n    "fmt"\n)\n\n'
    'func f(a []int, m map[string]int) []interface{} {\n    return []interface{}{a[0] + m["x"], %s}\n}\n'
    "func TestF(t *testing.T) {\n  candidate := f\n\ttype test struct {\n\t\tactual   interface{}\n"
    "\t\texpected interface{}\n\t}\n   tests := []test{\n"
    '     { actual: candidate([]int{1, 2}, map[string]int{"x": 5}), expected: []interface{}{6, []int{1, 2}} },\n'
    '   }\n\n\tfor i, tc := range tests {\n\t\tt.Run(fmt.Sprintf("test num % d", i), func(t *testing.T) {\n'
    '\t\t\tif fmt.Sprintf("%v", tc.actual) != fmt.Sprintf("%v", tc.expected) {\n'
    "\t\t\t\tt.Errorf(\"expected '%s', got '%s'\", tc.expected, tc.actual)\n\t\t\t}\n\t\t})\n\t}\n}\n\n"
)
_GO_BEFORE, _GO_AFTER = _GO.split("%s", 1)


def _go(part: str) -> str:
    return _GO_BEFORE + part + _GO_AFTER


GO = Toolchain(
    language="go",
    programs=("go",),
    packages=("golang-go",),
    version=("go", "version"),
    source="main_test.go",
    trailer='\nfunc TestMain(m *testing.M) {\n\tif m.Run() == 0 {\n\t\tprintln("{head}" + "{tail}")\n\t}\n}\n',
    environment=(
        *(("GOCACHE", "/tmp/go-build"), ("GOPATH", "/tmp/go"), ("GOPROXY", "off"), ("GOFLAGS", "-mod=mod")),
        *(("GOTELEMETRY", "off"), ("CGO_ENABLED", "0")),
    ),
    # `go test` also runs `go vet`, and what that finds counts as not built.
    compile=("go", "test", "-c", "-o", "main.test", "main_test.go"),
    run=("./main.test",),
    memory_limit="data",
    memory_overhead=128,
    processes=64,
    failures=(
        Failure(r"^(fatal error: )?runtime: .*(out of memory|cannot allocate)|cannot allocate memory",
                Status.OUT_OF_MEMORY),
        Failure(r"^panic: ", Status.RUNTIME_ERROR),
        Failure(r"^\s*--- FAIL: ", Status.FAILED_ASSERTION),
    ),
    compile_failures=(
        Failure(r"main_test\.go:\d+:\d+: (syntax error|(.*\b)?expected .*found|illegal|.* not terminated|newline)",
                Status.DOES_NOT_COMPILE),
        Failure(r"main_test\.go:\d+:\d+: ", Status.TYPE_ERROR),
    ),
    good=(_go("a"),),
    bad=(
        Known(_go("[]int{1}"), Status.FAILED_ASSERTION),
        Known(_go("a[9]"), Status.RUNTIME_ERROR),
        Known(_go("absent"), Status.TYPE_ERROR),
        Known(_go('fmt.Sprintf("%d", "x")'), Status.TYPE_ERROR),  # what only `go vet` finds
        Known(_go("["), Status.DOES_NOT_COMPILE),
    ),
)  # fmt: skip
