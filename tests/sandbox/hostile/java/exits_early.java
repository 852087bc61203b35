// Ends with 0 before its tests, past every hook.
// expect: left early
class Attack {
    static void attack() { Runtime.getRuntime().halt(0); }
}
