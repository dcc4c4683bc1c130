-- Admits a request under all its rate limits and its quota, or counts it nowhere.
--   KEYS  record of the request (if there are checks), one per check, the account's five (if there is a reservation)
--   ARGV  time, request id, tokens, lease (ms), record's life (ms), number of checks,
--         per check: kind, two numbers ('' for no limit): b rate (thousandths per second) and size (millionths), m and d
--         requests and tokens, c most and nothing;
--         for a reservation: id, limits of tokens and money ('' for none), amounts, when the account goes ('' never), most
--         running, instance
--   reply verdict, check, unit, wait (ms; -1: never), used_t, used_n, res_t, res_n, running, then three numbers per check

local now, id, tokens, lease = clock(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

-- === rates

local function look_at(i, key)
  local at = 7 + (i - 1) * 3
  local check = { kind = ARGV[at], first = tonumber(ARGV[at + 1]), second = tonumber(ARGV[at + 2]), role = i }
  if check.kind == 'b' then
    check.bucket = look_bucket(key, i, check.first, check.second, now)
  elseif check.kind == 'c' then
    check.permits = look_permits(key, i, check.first, now)
  else
    check.window = look(key, check.kind, i, now)
  end
  return check
end

-- What is in the way: pairs of unit and wait.
local function obstacles(check)
  local found = {}
  if check.kind == 'b' then
    if check.bucket.missing + ONE > check.bucket.size then
      found[1] = { 'r', until_refilled(check.bucket, now) }
    end
  elseif check.kind == 'c' then
    if check.permits.running >= check.first then
      shorten(check.permits.key, check.role, now, lease)
      -- Nobody knows when one of them ends.
      found[1] = { 'r', check.first > 0 and 1000 or -1 }
    end
  else
    local window = check.window
    if check.first and window.requests + 1 > check.first then
      found[1] = { 'r', until_fits(window, false, 1, check.first, now) }
    end
    if check.second and window.tokens + tokens > check.second then
      found[#found + 1] = { 'k', until_fits(window, true, tokens, check.second, now) }
    end
  end
  return found
end

local function store_check(check)
  if check.kind == 'b' then
    store_bucket(check.bucket)
  elseif check.kind == 'c' then
    store_permit(check.permits, id, now, lease)
  else
    store(check.window, 1, check.second and tokens or 0)
  end
end

-- Three numbers: what is missing in a bucket; who is running; requests, tokens and the time until nothing counts of a window.
local function level(check)
  if check.kind == 'b' then
    return check.bucket.missing, 0, 0
  elseif check.kind == 'c' then
    return check.permits.running, 0, 0
  end
  local window = check.window
  local whole = 0
  if window.requests + window.tokens > 0 then
    whole = until_out(window, window.last, now)
  end
  return window.requests, window.tokens, whole
end

-- === quota

local function ask_at(at)
  return {
    id = ARGV[at],
    limit = { t = tonumber(ARGV[at + 1]), n = tonumber(ARGV[at + 2]) },
    amount = { t = tonumber(ARGV[at + 3]), n = tonumber(ARGV[at + 4]) },
    due = tonumber(ARGV[at + 5]),
    most = tonumber(ARGV[at + 6]),
    instance = ARGV[at + 7],
  }
end

local function fits(limit, taken, amount)
  return not limit or taken + amount <= limit
end

local function weigh(account, ask)
  if read('reservations', 'HGET', account.held, ask.id) then
    return 'repeated'
  end
  ask.entry = noted(account, ask.id)
  if ask.entry and not ask.entry.held then
    -- Billed already.
    return 'repeated'
  end
  local used, limit, amount = account.used, ask.limit, ask.amount
  if not (fits(limit.t, used.t, amount.t) and fits(limit.n, used.n, amount.n)) then
    return 'exhausted'
  end
  local taken = plus(used, account.reserved)
  if not (fits(limit.t, taken.t, amount.t) and fits(limit.n, taken.n, amount.n)) or account.running >= ask.most then
    return 'held'
  end
  return 'ok'
end

local function reserve(account, ask)
  local one = { held = capped(ask.amount), spent = NOTHING, instance = ask.instance }
  if ask.entry then
    one.spent = ask.entry.charged
    revive(account, ask.id, ask.entry, one, lease)
    return
  end
  hold(account, ask.id, one, lease)
  save(account)
end

-- === both

local function reply(verdict, check, unit, wait, account, checks)
  local answer = { verdict, check, unit, wait, 0, 0, 0, 0, 0 }
  if account then
    answer[5], answer[6], answer[7], answer[8], answer[9] = state(account)
  end
  for _, each in ipairs(checks) do
    local a, b, c = level(each)
    answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = a, b, c
  end
  return answer
end

-- The limit that lasts longest is the one to tell of: whoever waits for a shorter one comes back for nothing.
local function longest(checks)
  local found
  for i, check in ipairs(checks) do
    for _, obstacle in ipairs(obstacles(check)) do
      local wait = obstacle[2]
      if not found or (found.wait ~= -1 and (wait == -1 or wait > found.wait)) then
        found = { check = i, unit = obstacle[1], wait = wait }
      end
    end
  end
  return found
end

local function main()
  local number = tonumber(ARGV[6])
  local checks, counted, key = {}, false, 1
  if number > 0 then
    counted = read('record', 'GET', KEYS[1]) ~= false
    for i = 1, number do
      checks[i] = look_at(i, KEYS[i + 1])
    end
    for _, check in ipairs(checks) do
      if check.bucket then
        settle_clock(check.bucket)
      end
    end
    key = number + 2
  end
  local found = not counted and longest(checks)
  if found then
    return reply('limited', found.check, found.unit, found.wait, nil, checks)
  end
  local account
  if KEYS[key] then
    local ask = ask_at(7 + number * 3)
    account = open(key, now, ask.due)
    expire(account)
    local verdict = weigh(account, ask)
    if verdict == 'held' then
      shorten(account.leases, 'leases', now, lease)
    end
    if verdict == 'held' or verdict == 'exhausted' then
      return reply(verdict, 0, '', 0, account, checks)
    end
    if verdict == 'ok' then
      reserve(account, ask)
    end
  end
  if number > 0 and not counted then
    for _, check in ipairs(checks) do
      store_check(check)
    end
    redis.call('SET', KEYS[1], text(now) .. ':' .. text(tokens), 'PX', ARGV[5])
  end
  return reply('ok', 0, '', 0, account, checks)
end

return run(main)
