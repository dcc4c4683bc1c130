-- A quota account, five keys:
--   main      hash: used_t, used_n (used: tokens, billionths), res_t, res_n (the sum of what is held), since (ms; when it came
--             to be), until (s; when all of it goes; absent: never), reset (ms; when it was last reset),
--             notes (1; there may be notes), u:<instance>:t, u:<instance>:n (what that gateway's requests came to)
--   held      hash: id -> held_t:held_n:spent_t:spent_n/instance
--   leases    sorted set: id -> ms
--   noted     hash: id -> charged_t:charged_n:held_t:held_n/instance (its lease ran out; what was charged then, what was held) or
--             charged_t:charged_n/instance (final: billed without, or after, a reservation)
--   noted_at  sorted set: id -> ms

local NOTED_MS = 8 * 86400 * 1000
local NOTED_MOST = 10000
local BATCH = 500
-- Batches of leases that one script ends, some tens of milliseconds of work; the next script goes on.
local BATCHES_MOST = 10
-- Who comes when this many gateways have an entry shares one.
local INSTANCES_MOST = 1000

-- Two pairs of numbers (the second is nil if there is only one) and an instance.
local function split(value, role)
  local a, b, rest, instance = string.match(value, '^(%d+):(%d+)([%d:]*)/(.*)$')
  local c, d = string.match(rest or '', '^:(%d+):(%d+)$')
  if not a or (rest ~= '' and not c) then
    fail(role, 'not an entry')
  end
  local first = { t = count(a, role), n = count(b, role) }
  return first, c and { t = count(c, role), n = count(d, role) }, instance
end

local function join(instance, first, second)
  local numbers = text(first.t) .. ':' .. text(first.n)
  if second then
    numbers = numbers .. ':' .. text(second.t) .. ':' .. text(second.n)
  end
  return numbers .. '/' .. instance
end

-- A reservation: what it holds, what it has spent, whose it is.
local function reservation(value)
  local held, spent, instance = split(value, 'reservations')
  if not spent then
    fail('reservations', 'not an entry')
  end
  return { held = held, spent = spent, instance = instance }
end

local function capped(amount)
  return { t = math.min(amount.t, MOST), n = math.min(amount.n, MOST) }
end

local function plus(a, b)
  return { t = add(a.t, b.t), n = add(a.n, b.n) }
end

local function minus(a, b)
  return { t = sub(a.t, b.t), n = sub(a.n, b.n) }
end

-- Reads the account whose keys begin at KEYS[at]. `due`: when all of it is to go, if that is known.
local function open(at, now, due)
  local account = {
    main = KEYS[at], held = KEYS[at + 1], leases = KEYS[at + 2], noted = KEYS[at + 3], noted_at = KEYS[at + 4],
    now = now, settled = {},
  }
  local got = read('account', 'HMGET', account.main,
    'used_t', 'used_n', 'res_t', 'res_n', 'since', 'until', 'reset', 'notes')
  account.used = { t = count(got[1], 'account'), n = count(got[2], 'account') }
  account.reserved = { t = count(got[3], 'account'), n = count(got[4], 'account') }
  account.since = got[5] and count(got[5], 'account')
  account.due = got[6] and count(got[6], 'account')
  account.reset = count(got[7], 'account')
  account.has_notes = got[8]
  -- Fields that are not about instances.
  account.fields = 0
  for i = 1, 8 do
    account.fields = account.fields + (got[i] and 1 or 0)
  end
  if due and due ~= account.due then
    account.due, account.moved = due, true
  end
  return account
end

local function count_running(account)
  account.running = read('reservations', 'HLEN', account.held)
end

local function keep_until(account, ...)
  if not account.due then
    return
  end
  -- Not in the past, whatever the clocks say: that would be to forget at once what is counted now.
  local due = math.max(account.due, math.ceil(account.now / 1000) + 86400)
  for _, key in ipairs({ ... }) do
    redis.call('EXPIREAT', key, text(due))
  end
end

local function save(account)
  local fields = {
    'used_t', text(account.used.t), 'used_n', text(account.used.n),
    'res_t', text(account.reserved.t), 'res_n', text(account.reserved.n),
  }
  local function set(name, value)
    fields[#fields + 1], fields[#fields + 2] = name, value
  end
  if not account.since then
    account.since, account.moved = account.now, true
    set('since', text(account.now))
  end
  if account.moved and account.due then
    set('until', text(account.due))
  end
  for name, total in pairs(account.settled) do
    set(name .. ':t', text(total.t))
    set(name .. ':n', text(total.n))
  end
  account.settled = {}
  redis.call('HSET', account.main, unpack(fields))
  if account.moved then
    keep_until(account, account.main, account.held, account.leases)
    account.moved = false
  end
end

local function state(account)
  return account.used.t, account.used.n, account.reserved.t, account.reserved.n, account.running
end

-- Changes what instances have settled by `changes`: instance -> { more, less }. It is written with the account.
local function attribute(account, changes)
  local role, room = 'account', nil
  for instance, change in pairs(changes) do
    local name = 'u:' .. instance
    local got = read(role, 'HMGET', account.main, name .. ':t', name .. ':n')
    if not got[1] then
      room = room or INSTANCES_MOST - (read(role, 'HLEN', account.main) - account.fields) / 2
      if room < 1 then
        name = 'u:*'
        got = read(role, 'HMGET', account.main, name .. ':t', name .. ':n')
      end
      room = room - 1
    end
    local before = account.settled[name] or { t = count(got[1], role), n = count(got[2], role) }
    account.settled[name] = minus(plus(before, change.more), change.less)
  end
end

local NOTHING = { t = 0, n = 0 }

-- Sees to it that both lists of notes are what they should be, before anything is written.
local function check_notes(account)
  read('notes', 'HLEN', account.noted)
  read('times of notes', 'ZCARD', account.noted_at)
end

local function forget(account, ids)
  redis.call('HDEL', account.noted, unpack(ids))
  redis.call('ZREM', account.noted_at, unpack(ids))
end

-- Writes id, value, id, value, …; the oldest go when there are too many.
local function note(account, entries)
  local times = {}
  for i = 1, #entries, 2 do
    times[i], times[i + 1] = text(account.now), entries[i]
  end
  redis.call('HSET', account.noted, unpack(entries))
  redis.call('ZADD', account.noted_at, unpack(times))
  local old = redis.call('ZRANGEBYSCORE', account.noted_at, '-inf', text(account.now - NOTED_MS), 'LIMIT', 0, BATCH)
  if #old > 0 then
    forget(account, old)
  end
  while true do
    local surplus = redis.call('ZCARD', account.noted_at) - NOTED_MOST
    if surplus <= 0 then
      break
    end
    forget(account, redis.call('ZRANGE', account.noted_at, 0, math.min(surplus, BATCH) - 1))
  end
  redis.call('PEXPIRE', account.noted, NOTED_MS)
  redis.call('PEXPIRE', account.noted_at, NOTED_MS)
  if not account.has_notes then
    account.has_notes = '1'
    redis.call('HSET', account.main, 'notes', '1')
  end
end

local function expire_batch(account, ids)
  local values = read('reservations', 'HMGET', account.held, unpack(ids))
  local entries, changes, used, reserved = {}, {}, account.used, account.reserved
  for i, value in ipairs(values) do
    if value then
      local one = reservation(value)
      used, reserved = plus(used, one.spent), minus(reserved, one.held)
      local change = changes[one.instance] or { more = NOTHING, less = NOTHING }
      changes[one.instance] = { more = plus(change.more, one.spent), less = NOTHING }
      entries[#entries + 1] = ids[i]
      entries[#entries + 1] = join(one.instance, one.spent, one.held)
    end
  end
  check_notes(account)
  attribute(account, changes)
  redis.call('HDEL', account.held, unpack(ids))
  redis.call('ZREM', account.leases, unpack(ids))
  if #entries > 0 then
    note(account, entries)
  end
  account.used, account.reserved, account.running = used, reserved, account.running - #entries / 2
  save(account)
end

-- Counts the reservations and removes those of whoever has not prolonged them: what they are known to have spent is used.
local function expire(account)
  count_running(account)
  for _ = 1, BATCHES_MOST do
    local ids = read('leases', 'ZRANGEBYSCORE', account.leases, '-inf', text(account.now), 'LIMIT', 0, BATCH)
    if #ids == 0 then
      return
    end
    expire_batch(account, ids)
  end
end

-- Writes a new reservation.
local function hold(account, id, one, lease)
  redis.call('ZADD', account.leases, text(account.now + lease), id)
  redis.call('HSET', account.held, id, join(one.instance, one.held, one.spent))
  if account.running == 0 then
    keep_until(account, account.held, account.leases)
  end
  account.reserved = plus(account.reserved, one.held)
  account.running = account.running + 1
end

-- What is noted about an id: what was charged and to whom, what was held (nil: final), and whether a reset has forgotten it.
local function noted(account, id)
  local value = account.has_notes and read('notes', 'HGET', account.noted, id)
  if not value then
    return nil
  end
  local charged, held, instance = split(value, 'notes')
  local at = read('times of notes', 'ZSCORE', account.noted_at, id)
  local forgotten = not at or tonumber(at) <= account.reset
  return { charged = charged, held = held, instance = instance, forgotten = forgotten }
end

-- Takes back a reservation whose lease ran out although its request still runs: even over the limit, for that is the truth.
-- `one`: what it is from now on.
local function revive(account, id, entry, one, lease)
  check_notes(account)
  read('leases', 'ZCARD', account.leases)
  attribute(account, { [entry.instance] = { more = NOTHING, less = entry.charged } })
  forget(account, { id })
  hold(account, id, one, lease)
  if not entry.forgotten then
    account.used = minus(account.used, entry.charged)
  end
  save(account)
end
