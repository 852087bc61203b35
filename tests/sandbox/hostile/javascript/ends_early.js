// Ends with 0 before its tests.
// expect: left early
process.exit(0);
