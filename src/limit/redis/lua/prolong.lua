-- Prolongs the reservations of running requests, on several accounts. One whose lease ran out is taken back.
--   KEYS  five per account
--   ARGV  time, lease (ms), per account: number of ids, the ids
--   reply ok

local now, lease = clock(ARGV[1]), tonumber(ARGV[2])

local function take_back(account, ids)
  for _, id in ipairs(ids) do
    local entry = noted(account, id)
    if entry and entry.held then
      local one = { held = entry.held, spent = entry.charged, instance = entry.instance }
      count_running(account)
      revive(account, id, entry, one, lease)
    end
  end
end

local function prolong(at, ids)
  local account = open(at, now)
  local values = read('reservations', 'HMGET', account.held, unpack(ids))
  local alive, lost = {}, {}
  for i, id in ipairs(ids) do
    if values[i] then
      alive[#alive + 1] = text(now + lease)
      alive[#alive + 1] = id
    else
      lost[#lost + 1] = id
    end
  end
  if #alive > 0 then
    read('leases', 'ZADD', account.leases, unpack(alive))
  end
  take_back(account, lost)
end

local function main()
  local failed
  local key, at = 1, 3
  while ARGV[at] do
    local ids = {}
    for i = 1, tonumber(ARGV[at]) do
      ids[i] = ARGV[at + i]
    end
    local ok, problem = pcall(prolong, key, ids)
    if not ok then
      -- What is wrong with one account must not cost the others their leases.
      failed = failed or problem
    end
    key, at = key + 5, at + #ids + 1
  end
  if failed then
    error(failed, 0)
  end
  return { 'ok' }
end

return run(main)
