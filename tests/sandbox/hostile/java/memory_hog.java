// Takes all the memory that it can get, outside the heap too.
// expect: memory or failed or killed
import java.nio.ByteBuffer;
import java.util.ArrayList;

class Attack {
    static void attack() {
        var kept = new ArrayList<ByteBuffer>();
        for (;;) kept.add(ByteBuffer.allocateDirect(8 << 20));
    }
}
