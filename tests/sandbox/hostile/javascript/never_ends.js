// Keeps the event loop alive for ever.
// expect: time
setInterval(() => {}, 1000);
