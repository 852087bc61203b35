import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.lang.management.ManagementFactory;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * A compiler that stays up: for each request on standard input it compiles in the current folder, which it then empties.
 *
 * Usage: CompileServer java|scala. Every compilation is the compiler's own command line, run anew, so nothing of one
 * program is there for the next. Numbers are big-endian, texts and files preceded by their length in 4 bytes.
 * Request: number of arguments, arguments, number of files, (name, content) of each.
 * Reply: exit code, CPU nanoseconds (8 bytes), output, number of new files, (name, content) of each. Exit codes are
 * javac's: 0 compiled, 1 refused; whatever else means that the compiler itself failed.
 */
public final class CompileServer {
    private static final int MAX_OUTPUT = 1 << 20;

    private interface Compiler {
        int compile(String[] arguments, PrintWriter out) throws Exception;
    }

    public static void main(String[] options) throws Exception {
        DataInputStream in = new DataInputStream(new FileInputStream(FileDescriptor.in));
        DataOutputStream out = new DataOutputStream(new FileOutputStream(FileDescriptor.out));
        Limited printed = new Limited();
        PrintStream stream = new PrintStream(printed, true, StandardCharsets.UTF_8);
        System.setOut(stream);
        System.setErr(stream);
        Compiler compiler = options[0].equals("scala") ? CompileServer::scala : com.sun.tools.javac.Main::compile;
        Path folder = Path.of("").toAbsolutePath();
        while (true) {
            String[] arguments;
            try {
                arguments = new String[in.readInt()];
            } catch (EOFException end) {
                return;
            }
            for (int i = 0; i < arguments.length; i++) {
                arguments[i] = new String(read(in), StandardCharsets.UTF_8);
            }
            Set<Path> given = new HashSet<>();
            for (int left = in.readInt(); left > 0; left--) {
                Path file = folder.resolve(new String(read(in), StandardCharsets.UTF_8));
                Files.write(file, read(in));
                given.add(file);
            }
            printed.reset();
            long start = ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime();
            PrintWriter writer = new PrintWriter(stream, true);
            int code = compiler.compile(arguments, writer);
            writer.flush();
            stream.flush();
            long used = ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime() - start;
            reply(out, folder, given, code, used, printed.toByteArray());
            empty(folder);
        }
    }

    private static int scala(String[] arguments, PrintWriter out) throws Exception {
        Class<?> compiler = Class.forName("scala.tools.nsc.Main");
        try {
            compiler.getMethod("process", String[].class).invoke(null, (Object) arguments);
        } catch (InvocationTargetException failure) {
            failure.getCause().printStackTrace(out);
            return 4;
        }
        Object reporter = compiler.getMethod("reporter").invoke(null);
        return (Boolean) reporter.getClass().getMethod("hasErrors").invoke(reporter) ? 1 : 0;
    }

    private static void reply(DataOutputStream out, Path folder, Set<Path> given, int code, long used, byte[] printed)
            throws IOException {
        List<Path> made;
        try (Stream<Path> paths = Files.walk(folder)) {
            made = paths.filter(path -> Files.isRegularFile(path) && !given.contains(path)).collect(Collectors.toList());
        }
        ByteArrayOutputStream all = new ByteArrayOutputStream();
        DataOutputStream data = new DataOutputStream(all);
        data.writeInt(code);
        data.writeLong(used);
        write(data, printed);
        data.writeInt(made.size());
        for (Path file : made) {
            write(data, folder.relativize(file).toString().getBytes(StandardCharsets.UTF_8));
            write(data, Files.readAllBytes(file));
        }
        write(out, all.toByteArray());
        out.flush();
    }

    private static void empty(Path folder) throws IOException {
        List<Path> all;
        try (Stream<Path> paths = Files.walk(folder)) {
            all = paths.filter(path -> !path.equals(folder)).sorted(Comparator.reverseOrder()).collect(Collectors.toList());
        }
        for (Path path : all) {
            Files.delete(path);
        }
    }

    private static byte[] read(DataInputStream in) throws IOException {
        byte[] bytes = new byte[in.readInt()];
        in.readFully(bytes);
        return bytes;
    }

    private static void write(DataOutputStream out, byte[] bytes) throws IOException {
        out.writeInt(bytes.length);
        out.write(bytes);
    }

    /** Keeps the first MAX_OUTPUT bytes. */
    private static final class Limited extends OutputStream {
        private final ByteArrayOutputStream kept = new ByteArrayOutputStream();

        @Override
        public synchronized void write(int value) {
            if (kept.size() < MAX_OUTPUT) {
                kept.write(value);
            }
        }

        @Override
        public synchronized void write(byte[] bytes, int start, int length) {
            kept.write(bytes, start, Math.min(length, MAX_OUTPUT - kept.size()));
        }

        synchronized void reset() {
            kept.reset();
        }

        synchronized byte[] toByteArray() {
            return kept.toByteArray();
        }
    }
}
