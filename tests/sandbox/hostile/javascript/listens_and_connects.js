// Listens on every address and connects to the host.
// expect: passed
const net = require("net");
net.createServer().listen(8098).unref();
const client = net.connect(Number(process.env.HOSTILE_PORT), "127.0.0.1");
client.on("connect", () => console.log("BREACH"));
client.on("error", () => {});
