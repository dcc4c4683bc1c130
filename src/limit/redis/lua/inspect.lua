-- Reads an account, or forgets what was used.
--   KEYS  the account's five
--   ARGV  time, what (read, reset, open, settled), id or instance
--   reply ok, then: read: used_t, used_n, res_t, res_n, running; open: 1 or 0; settled: since, tokens, money (nothing if there is
--         no such account)

local now, what, name = clock(ARGV[1]), ARGV[2], ARGV[3]

local function settled(account)
  local names = { 'u:' .. name .. ':t', 'u:' .. name .. ':n', 'u:*:t' }
  local got = read('account', 'HMGET', account.main, unpack(names))
  -- Without an entry of its own it may be in the shared one, and then nobody knows.
  if not account.since or (not got[1] and got[3]) then
    return { 'ok' }
  end
  return { 'ok', text(account.since), text(count(got[1], 'account')), text(count(got[2], 'account')) }
end

local function main()
  local account = open(1, now)
  if what == 'settled' then
    return settled(account)
  end
  expire(account)
  if what == 'open' then
    return { 'ok', read('reservations', 'HEXISTS', account.held, name) }
  end
  if what == 'reset' and account.since then
    account.used = { t = 0, n = 0 }
    save(account)
    redis.call('HSET', account.main, 'reset', text(now))
  end
  return { 'ok', state(account) }
end

return run(main)
