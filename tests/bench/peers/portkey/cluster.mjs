// cluster.mjs SERVER WORKERS PORT: runs Portkey's own server in WORKERS processes that share one port.
// Its server is one process, and one process of Node.js uses one core. Node.js's cluster module is what its documentation
// (and pm2's "-i") offers to use more; one worker for each core is the same that the other proxies get.
import cluster from 'node:cluster';

const [server, workers, port] = process.argv.slice(2);
cluster.setupPrimary({ exec: server, args: [`--port=${port}`, '--headless'] });
for (let i = 0; i < Number(workers); i++) cluster.fork();

// A worker that dies would make the measurement wrong in silence.
cluster.on('exit', () => process.exit(1));
process.on('SIGTERM', () => {
  cluster.removeAllListeners('exit');
  for (const worker of Object.values(cluster.workers)) worker.process.kill('SIGKILL');
  process.exit(0);
});
