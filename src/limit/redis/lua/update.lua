-- Sets what is held and what is spent of a running request.
--   KEYS  the account's five
--   ARGV  time, lease (ms), id, held tokens, held money, spent tokens, spent money
--   reply ok, 1 if the reservation was there

local now, lease, id = clock(ARGV[1]), tonumber(ARGV[2]), ARGV[3]

local function main()
  local held = capped({ t = tonumber(ARGV[4]), n = tonumber(ARGV[5]) })
  local spent = capped({ t = tonumber(ARGV[6]), n = tonumber(ARGV[7]) })
  local account = open(1, now)
  local value = read('reservations', 'HGET', account.held, id)
  if value then
    local before = reservation(value)
    -- Fails before anything else is written if it is of another type.
    read('leases', 'ZADD', account.leases, text(now + lease), id)
    redis.call('HSET', account.held, id, join(before.instance, held, spent))
    if held.t ~= before.held.t or held.n ~= before.held.n then
      account.reserved = plus(minus(account.reserved, before.held), held)
      save(account)
    end
    return { 'ok', 1 }
  end
  local entry = noted(account, id)
  if entry and entry.held then
    count_running(account)
    revive(account, id, entry, { held = held, spent = spent, instance = entry.instance }, lease)
  end
  return { 'ok', 0 }
end

return run(main)
