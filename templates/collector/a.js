/* Audience Insights: views, clicks, engaged time and scroll depth of a page. No cookie, nothing stored. Apache-2.0 */
(function (w, d, me) {
  var to = new URL("v1/events", me.src), queue = [], timer, busy, wait = 1e3, session = id(), page, old, since, spent, depth
  if (me.dataset.key) to.searchParams.set("key", me.dataset.key)
  function id() {
    return Array.from(crypto.getRandomValues(new Uint8Array(16)), function (b) { return (b + 256).toString(16).slice(1) }).join("")
  }
  function add(type, more) {
    queue.push(Object.assign({ event_id: id(), event_type: type, event_time: new Date().toISOString(), session_id: session,
      channel: "web", content_id: page, device: /ipad|tablet/i.test(navigator.userAgent) ? "tablet" : /mobi/i.test(navigator.userAgent) ? "mobile" : "desktop" }, more))
    timer = timer || setTimeout(send, 500)
  }
  function body(events) {
    var now = new Date().toISOString()
    return JSON.stringify(events.map(function (e) { return Object.assign({ sent_time: now }, e) }))
  }
  function send() {
    timer = 0
    if (busy || !queue.length) return
    var some = queue.splice(0, 50)
    busy = fetch(to, { method: "POST", keepalive: true, headers: { "content-type": "text/plain" }, body: body(some) })
      .then(function (r) { if (r.status > 428) throw r; wait = 1e3 })
      .catch(function () { queue = some.concat(queue).slice(0, 500); wait = Math.min(2 * wait, 6e4) })
      .then(function () { busy = 0; if (queue.length) timer = timer || setTimeout(send, wait) })
  }
  function scrolled() {
    var e = d.documentElement
    depth = Math.max(depth, Math.min(100, Math.round((w.scrollY + w.innerHeight) / e.scrollHeight * 100)) || 0)
  }
  function pause() { if (since) spent += Date.now() - since; since = 0 }
  function resume() { since = since || Date.now() }
  function leave() {
    pause()
    if (spent >= 1e3) add("engagement", { properties: { seconds: Math.round(spent / 1e3), scroll: depth } })
    spent = 0
  }
  function view() {
    if (location.pathname === page) return
    if (page) leave()
    var from = page ? "" : d.referrer
    page = location.pathname; spent = depth = since = 0
    if (!d.hidden) resume()
    scrolled()
    add("page_view", {
      campaign: new URLSearchParams(location.search).get("utm_campaign") || undefined,
      referrer: from && from.indexOf(location.origin) ? from.split(/[?#]/)[0] : undefined
    })
  }
  var push = history.pushState
  history.pushState = function () { push.apply(this, arguments); view() }
  w.addEventListener("popstate", view)
  w.addEventListener("scroll", scrolled, { passive: true })
  d.addEventListener("visibilitychange", function () {
    if (!d.hidden) return resume()
    leave()
    if (queue.length && navigator.sendBeacon(to, body(queue))) queue = []
  })
  d.addEventListener("click", function (e) {
    var at = e.target.closest("[data-event]")
    if (at) w.audience(at.dataset.event, at.dataset)
  })
  w.audience = function (type, fields) {
    var more = {}, rest = {}
    for (var k in fields) {
      if (k === "content") more.content_id = fields[k]
      else if (k === "value" || k === "quantity") more[k] = +fields[k]
      else if (/^(category|currency|text|user_id)$/.test(k)) more[k] = fields[k]
      else if (k !== "event") rest[k] = fields[k]
    }
    more.properties = rest
    add(type, more)
  }
  view()
})(window, document, document.currentScript)
