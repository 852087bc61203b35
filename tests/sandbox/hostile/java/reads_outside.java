// Reads what the host has, and leaves a process behind.
// expect: passed
import java.nio.file.Files;
import java.nio.file.Path;

class Attack {
    static void attack() throws Exception {
        for (String path : (System.getenv("HOSTILE_PATHS") + ":/etc/shadow:/proc/1/environ").split(":")) {
            try {
                System.out.println("BREACH: " + Files.readString(Path.of(path)));
            } catch (java.io.IOException error) {
                continue;
            }
        }
        new ProcessBuilder("setsid", "sleep", "3600").start();
    }
}
