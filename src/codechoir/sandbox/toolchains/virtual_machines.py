"""The toolchains of languages that a virtual machine runs: Java, Scala, C#, JavaScript, TypeScript."""

from __future__ import annotations

from codechoir.records import Status
from codechoir.sandbox.toolchains.toolchain import Failure, Known, Toolchain

_JARS = "/usr/share/java"
JAVATUPLES = f"{_JARS}/javatuples.jar"
_SCALA_LIBRARY = f"{_JARS}/scala-library.jar"
_SCALA_COMPILER = ":".join(f"{_JARS}/scala-{name}.jar" for name in ("compiler", "library", "reflect", "xml"))
_SMALL_JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
_JVM_FAILURES = (
    Failure(r"java\.lang\.OutOfMemoryError|insufficient memory for the Java Runtime", Status.OUT_OF_MEMORY),
    Failure(r'^Exception in thread "main" java\.lang\.AssertionError', Status.FAILED_ASSERTION),
)

_JAVA = (
    "import java.util.*;\nimport org.javatuples.*;\nclass Problem {\n"
    "    public static Pair<Long, ArrayList<Long>> f(ArrayList<Long> a, HashMap<String,Long> m) {\n"
    '        return Pair.with(a.get(0) + m.get("x"), %s);\n    }\n    public static void main(String[] args) {\n'
    "    assert(f((new ArrayList<Long>(Arrays.asList((long)1l, (long)2l))), "
    '(new HashMap<String,Long>(Map.of("x", 5l)))).equals((Pair.with(6l, '
    "(new ArrayList<Long>(Arrays.asList((long)1l, (long)2l)))))));\n    }\n\n}\n"
)
JAVA = Toolchain(
    language="java",
    programs=("java", "javac"),
    files=(JAVATUPLES,),
    packages=("default-jdk-headless", "libjavatuples-java"),
    visible=("/etc/java-*-openjdk",),
    version=("java", "--version"),
    source="Problem.java",
    trailer=(
        "\nclass CodechoirRanToEnd {\n    public static void main(String[] arguments) throws Throwable {\n"
        "        Problem.main(arguments);\n        new java.io.FileOutputStream(java.io.FileDescriptor.err)"
        '.write("{head}".concat("{tail}\\n").getBytes());\n    }\n}\n'
    ),
    compile=(
        *("javac", "-J-Xmx512m", "-J-XX:+UseSerialGC", "-J-XX:TieredStopAtLevel=1", "-J-XX:-UsePerfData"),
        *("-nowarn", "-proc:none", "-encoding", "UTF-8", "-cp", JAVATUPLES, "-d", ".", "Problem.java"),
    ),
    run=("java", "-ea", "-Xmx{memory}m", *_SMALL_JVM, "-cp", f".:{JAVATUPLES}", "CodechoirRanToEnd"),
    memory_limit="data",
    memory_overhead=768,
    processes=128,
    failures=_JVM_FAILURES,
    compile_failures=(
        Failure(
            r": error: (.*\bexpected$|illegal |not a statement|reached end of file|unclosed |'\w+' without|orphaned "
            r"|malformed |unnamed classes|empty character literal|integer number too large|class, interface)",
            Status.DOES_NOT_COMPILE,
        ),
        Failure(r"^Problem\.java:\d+: error: ", Status.TYPE_ERROR),
    ),
    good=(_JAVA % "a",),
    bad=(
        Known(_JAVA % "new ArrayList<Long>()", Status.FAILED_ASSERTION),
        Known(_JAVA % "new ArrayList<Long>(a.subList(0, 9))", Status.RUNTIME_ERROR),
        Known(_JAVA % "1", Status.TYPE_ERROR),
        Known(_JAVA % "", Status.DOES_NOT_COMPILE),
    ),
)

_SCALA = (
    "import scala.math._\nimport scala.collection.mutable._\nobject Problem {\n"
    "    def f(a : List[Long], m : Map[String,Long]) : Tuple2[Long, Option[Long]] = {\n"
    '        (a.sum + m("x"), %s)\n    }\n    def main(args: Array[String]) = {\n'
    '    assert(f((List[Long](1l, 2l)), (Map[String,Long]("x" -> 5l))).equals((8l, Some(1l))));\n    }\n\n}\n'
)
SCALA = Toolchain(
    language="scala",
    programs=("java",),
    files=(_SCALA_LIBRARY, f"{_JARS}/scala-compiler.jar"),
    packages=("default-jdk-headless", "scala"),
    visible=("/etc/java-*-openjdk",),
    version=("java", *_SMALL_JVM, "-cp", _SCALA_COMPILER, "scala.tools.nsc.Main", "-version"),
    source="main.scala",
    trailer=(
        "\nobject CodechoirRanToEnd {\n  def main(arguments: scala.Array[java.lang.String]): scala.Unit = {\n"
        "    Problem.main(arguments)\n    new java.io.FileOutputStream(java.io.FileDescriptor.err)"
        '.write("{head}".concat("{tail}\\n").getBytes())\n  }\n}\n'
    ),
    compile=(
        *("java", "-Xmx1024m", "-Xss4m", *_SMALL_JVM, "-cp", _SCALA_COMPILER, "scala.tools.nsc.Main"),
        *("-nowarn", "-encoding", "UTF-8", "-cp", _SCALA_LIBRARY, "-d", ".", "main.scala"),
    ),
    run=("java", "-Xmx{memory}m", *_SMALL_JVM, "-cp", f".:{_SCALA_LIBRARY}", "CodechoirRanToEnd"),
    memory_limit="data",
    memory_overhead=768,
    processes=128,
    failures=_JVM_FAILURES,
    compile_failures=(
        Failure(
            r": error: (.*\bexpected\b|illegal |unclosed |Missing closing|not a legal|eof expected|unmatched"
            r"|invalid literal|integer number too large|empty character)",
            Status.DOES_NOT_COMPILE,
        ),
        Failure(r"^main\.scala:\d+: error: ", Status.TYPE_ERROR),
    ),
    good=(_SCALA % "Some(a.head)",),
    bad=(
        Known(_SCALA % "None", Status.FAILED_ASSERTION),
        Known(_SCALA % "Some(a(9))", Status.RUNTIME_ERROR),
        Known(_SCALA % '"1"', Status.TYPE_ERROR),
        Known(_SCALA % ",", Status.DOES_NOT_COMPILE),
    ),
)

_CSHARP = (
    "using System;\nusing System.Numerics;\nusing System.Diagnostics;\nusing System.Collections.Generic;\n"
    "using System.Linq;\nusing System.Text;\nusing System.Security.Cryptography;\nclass Problem {\n"
    "    public static Tuple<long, List<long>> F(List<long> a, Dictionary<string,long> m) {\n"
    '        return Tuple.Create(a.Sum() + m["x"], %s);\n    }\n    public static void Main(string[] args) {\n'
    "    var result = F((new List<long>(new long[]{(long)1L, (long)2L})), "
    '(new Dictionary<string,long>(){{"x", 5L}}));\n'
    "    Debug.Assert(result.Item1 == (8L));\n"
    "    Debug.Assert(result.Item2.SequenceEqual((new List<long>(new long[]{(long)1L, (long)2L}))));\n    }\n\n}\n"
)
CSHARP = Toolchain(
    language="csharp",
    programs=("mcs", "mono"),
    files=("/usr/lib/mono/4.5/System.Numerics.dll", "/usr/lib/mono/4.5/System.Core.dll"),
    packages=(
        *("mono-mcs", "mono-runtime", "libmono-system-numerics4.0-cil", "libmono-system-core4.0-cil"),
        "libmono-corlib4.5-cil",
    ),
    visible=("/etc/mono",),
    version=("mcs", "--version"),
    source="main.cs",
    # A failed Debug.Assert goes to the trace's listeners, of which none stops the program or is seen by default.
    trailer=(
        "\nclass CodechoirRanToEnd {\n    sealed class Listener : System.Diagnostics.TraceListener {\n"
        "        public override void Write(string text) { }\n"
        "        public override void WriteLine(string text) { }\n"
        '        public override void Fail(string text) { Fail(text, ""); }\n'
        "        public override void Fail(string text, string detail) {\n"
        '            System.Console.Error.WriteLine("Assertion failed. " + text + " " + detail + "\\n"'
        " + System.Environment.StackTrace);\n            System.Environment.Exit(134);\n        }\n    }\n"
        "    static void Main(string[] arguments) {\n        System.Diagnostics.Trace.Listeners.Clear();\n"
        "        System.Diagnostics.Trace.Listeners.Add(new Listener());\n        Problem.Main(arguments);\n"
        '        System.Console.Error.WriteLine(System.String.Concat("{head}", "{tail}"));\n    }\n}\n'
    ),
    compile=(
        *("mcs", "-warn:0", "-d:DEBUG", "-r:System.Numerics.dll", "-main:CodechoirRanToEnd"),
        *("-out:main.exe", "main.cs"),
    ),
    run=("mono", "main.exe"),
    memory_limit="data",
    memory_overhead=256,
    processes=64,
    failures=(
        Failure(r"OutOfMemoryException|[Cc]ould not allocate|Cannot allocate memory", Status.OUT_OF_MEMORY),
        Failure(r"^Assertion failed\. ", Status.FAILED_ASSERTION),
    ),
    compile_failures=(
        Failure(r": error CS(100[1-9]|10[1-4]\d|105[0-6]|151[3-9]|152\d|1646|8025)\b", Status.DOES_NOT_COMPILE),
        Failure(r"^main\.cs\(\d+,\d+\): error CS\d+: ", Status.TYPE_ERROR),
    ),
    good=(_CSHARP % "a",),
    bad=(
        Known(_CSHARP % "new List<long>()", Status.FAILED_ASSERTION),
        Known(_CSHARP % "a.GetRange(0, 9)", Status.RUNTIME_ERROR),
        Known(_CSHARP % '"a"', Status.TYPE_ERROR),
        Known(_CSHARP % "", Status.DOES_NOT_COMPILE),
    ),
)

_NODE_FAILURES = (
    Failure(r"JavaScript heap out of memory|Array buffer allocation failed", Status.OUT_OF_MEMORY),
    Failure(r"^AssertionError\b", Status.FAILED_ASSERTION),
    # `wrapSafe` is where node compiles the main file.
    Failure(r"(?s)^SyntaxError: .*^    at (Object\.compileFunction|wrapSafe|compileSourceTextModule)\b",
            Status.DOES_NOT_COMPILE),
)  # fmt: skip
_NODE = ("node", "--max-old-space-size={memory}", "main.js")
_JAVASCRIPT = (
    "function f(a, m){\n  return [a.reduce((x, y) => x + y, m[\"x\"]), %s];\n}\nconst assert = require('node:assert');"
    '\n\n\nfunction test() {\n  let candidate = f;\n  assert.deepEqual(candidate([1, 2], {"x": 5}),'
    '[8, {"y": [1, undefined]}]);\n}\n\ntest();\n'
)
JAVASCRIPT = Toolchain(
    language="javascript",
    programs=("node",),
    packages=("nodejs",),
    version=("node", "--version"),
    source="main.js",
    trailer='\n;process.stdout.write("{head}" + "{tail}\\n");\n',
    run=_NODE,
    memory_limit="data",
    memory_overhead=768,
    processes=64,
    failures=_NODE_FAILURES,
    good=(_JAVASCRIPT % '{"y": [1, undefined]}',),
    bad=(
        Known(_JAVASCRIPT % '{"y": [2, undefined]}', Status.FAILED_ASSERTION),
        Known(_JAVASCRIPT % "absent()", Status.RUNTIME_ERROR),
        Known(_JAVASCRIPT % "{", Status.DOES_NOT_COMPILE),
        Known(_JAVASCRIPT % "process.exit(0)", Status.RUNTIME_ERROR),
    ),
)

_TYPESCRIPT = (
    "function f(a: number[], m: {[key: string]: number}): [number, number | undefined] {\n"
    '  return [a.reduce((x, y) => x + y, m["x"]), %s];\n}\ndeclare var require: any;\n'
    "const assert = require('node:assert');\n\n\nfunction test() {\n  let candidate = f;\n"
    '  assert.deepEqual(candidate([1, 2], {"x": 5}),[8, undefined]);\n}\n\ntest();\n'
)
TYPESCRIPT = Toolchain(
    language="typescript",
    programs=("tsc", "node"),
    packages=("nodejs", "npm"),
    npm_packages=("typescript@7",),
    version=("tsc", "--version"),
    source="main.ts",
    trailer='\n;(globalThis as any).process.stdout.write("{head}" + "{tail}\\n");\n',
    # As `tsc --target esnext` of TypeScript 5, with which MultiPL-E was made: nothing strict, neither in types nor in
    # the script that comes out, which TypeScript 7 always begins with a directive of its own.
    compile=(
        *("sh", "-c", '"$0" --target esnext --strict false main.ts && sed -i \'1{/^"use strict";$/d}\' main.js'),
        "tsc",
    ),
    run=_NODE,
    memory_limit="data",
    memory_overhead=768,
    processes=64,
    failures=_NODE_FAILURES,
    compile_failures=(
        Failure(r"^main\.ts\(\d+,\d+\): error TS1\d{3}: ", Status.DOES_NOT_COMPILE),
        Failure(r"^main\.ts\(\d+,\d+\): error TS\d+: ", Status.TYPE_ERROR),
    ),
    good=(_TYPESCRIPT % "m['z']", _TYPESCRIPT % "((b) => b.z as number)(m as any)"),
    bad=(
        Known(_TYPESCRIPT % "1", Status.FAILED_ASSERTION),
        Known(_TYPESCRIPT % "(m as any).y.z", Status.RUNTIME_ERROR),
        Known(_TYPESCRIPT % '"1"', Status.TYPE_ERROR),
        Known(_TYPESCRIPT % "{", Status.DOES_NOT_COMPILE),
    ),
)
