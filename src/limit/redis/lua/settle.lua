-- A request is billed: what it held is free, what it spent is used.
--   KEYS  the account's five
--   ARGV  time, id, spent tokens, spent money, '1' if it was admitted without a reservation, instance, when the account goes if
--         it is not there ('' never)
--   reply ok

local now, id, instance = clock(ARGV[1]), ARGV[2], ARGV[6]

local function settle_held(account, value, spent, unreserved)
  local one = reservation(value)
  if unreserved then
    check_notes(account)
  end
  attribute(account, { [one.instance] = { more = spent, less = NOTHING } })
  -- Fails before anything else is written if it is of another type.
  read('leases', 'ZREM', account.leases, id)
  redis.call('HDEL', account.held, id)
  if unreserved then
    note(account, { id, join(one.instance, spent) })
  end
  account.reserved, account.used = minus(account.reserved, one.held), plus(account.used, spent)
  save(account)
end

local function settle_noted(account, entry, spent)
  check_notes(account)
  local more, less = minus(spent, entry.charged), minus(entry.charged, spent)
  attribute(account, { [entry.instance] = { more = more, less = less } })
  redis.call('HSET', account.noted, id, join(entry.instance, spent))
  account.used = plus(account.used, more)
  -- What a reset has forgotten is not given back.
  if not entry.forgotten then
    account.used = minus(account.used, less)
  end
  save(account)
end

local function charge(account, spent)
  check_notes(account)
  attribute(account, { [instance] = { more = spent, less = NOTHING } })
  note(account, { id, join(instance, spent) })
  account.used = plus(account.used, spent)
  save(account)
end

local function main()
  local spent = capped({ t = tonumber(ARGV[3]), n = tonumber(ARGV[4]) })
  local unreserved = ARGV[5] == '1'
  local account = open(1, now)
  if not account.since then
    account.due, account.moved = tonumber(ARGV[7]), true
  end
  local value = read('reservations', 'HGET', account.held, id)
  local entry = not value and noted(account, id)
  if value then
    settle_held(account, value, spent, unreserved)
  elseif entry then
    settle_noted(account, entry, spent)
  elseif unreserved then
    charge(account, spent)
  end
  return { 'ok' }
end

return run(main)
