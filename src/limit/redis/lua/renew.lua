-- Prolongs the permits of running requests. A request that is on record gets a permit back that it has lost (a clock that jumped,
-- a server out of reach for longer than a lease). One that is not has ended meanwhile, or runs for longer than records are kept:
-- it keeps what it has.
--   KEYS  the requests' records, then the running requests of each limit
--   ARGV  time, lease (ms), number of requests, their ids, per limit: number of requests, their numbers
--   reply ok

local now, lease, requests = clock(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local function renew(key, numbers, records)
  local recorded, others = {}, { 'XX' }
  for _, number in ipairs(numbers) do
    local permits = records[number] and recorded or others
    permits[#permits + 1] = text(now + lease)
    permits[#permits + 1] = ARGV[3 + number]
  end
  if #recorded > 0 then
    read('running requests', 'ZADD', key, unpack(recorded))
  end
  if #others > 1 then
    read('running requests', 'ZADD', key, unpack(others))
  end
  redis.call('PEXPIRE', key, text(4 * lease))
end

local function main()
  local failed
  local records = redis.call('MGET', unpack(KEYS, 1, requests))
  local key, at = requests + 1, 4 + requests
  while ARGV[at] do
    local numbers = {}
    for i = 1, tonumber(ARGV[at]) do
      numbers[i] = tonumber(ARGV[at + i])
    end
    local ok, problem = pcall(renew, KEYS[key], numbers, records)
    if not ok then
      -- What is wrong with one must not cost the others their permits.
      failed = failed or problem
    end
    key, at = key + 1, at + #numbers + 1
  end
  if failed then
    error(failed, 0)
  end
  return { 'ok' }
end

return run(main)
