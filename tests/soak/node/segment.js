// Segment's client for Node, unmodified, until its standard input ends: node segment.js ADDRESS KEY EMAIL
import { Analytics } from "@segment/analytics-node"

const [address, writeKey, email] = process.argv.slice(2)
const client = new Analytics({ writeKey, host: address, flushAt: 20, flushInterval: 500, maxRetries: 10 })
const timer = setInterval(() => {
  client.track({ userId: "u-1", event: "Product Added", properties: { price: 7.5, email } })
}, 50)
process.stdin.resume()
process.stdin.on("end", async () => {
  clearInterval(timer)
  await client.closeAndFlush({ timeout: 60_000 })
  process.exit(0)
})
