-- A request has ended: its permits are free and its estimate becomes what it took; or it was not admitted after all, then what
-- was counted is uncounted. Without its record it was finished before, and nothing is counted.
--   KEYS  record, one per check
--   ARGV  time, id, tokens ('' : it was not admitted after all), number of checks, per check: kind, whether tokens are
--         counted there ('1' or '')
--   reply ok

local now, id, tokens = clock(ARGV[1]), ARGV[2], tonumber(ARGV[3])

local function record()
  local value = read('record', 'GET', KEYS[1])
  if not value then
    return nil
  end
  local at, estimate = string.match(value, '^(%d+):(%d+)$')
  if not at then
    fail('record', 'not an entry')
  end
  return { at = count(at, 'record'), tokens = count(estimate, 'record') }
end

-- Reads what is to change in a bucket or window and returns what changes it.
local function correction(i, key, kind, counts_tokens, before)
  if kind == 'b' then
    return not tokens and put_back(key, i)
  end
  if tokens and not counts_tokens then
    return nil
  end
  local surplus = (tokens or 0) - (counts_tokens and before.tokens or 0)
  if surplus > 0 then
    local window = look(key, kind, i, now)
    return function()
      store(window, 0, surplus)
    end
  end
  return take_back(key, kind, i, before.at, tokens and 0 or 1, -surplus)
end

local function main()
  local failed
  local rest = {}
  for i = 1, tonumber(ARGV[4]) do
    local at = 5 + (i - 1) * 2
    if ARGV[at] == 'c' then
      local ok, problem = pcall(read, i, 'ZREM', KEYS[i + 1], id)
      if not ok then
        -- What is wrong with one must not keep the other permits.
        failed = failed or problem
      end
    else
      rest[#rest + 1] = { i, KEYS[i + 1], ARGV[at], ARGV[at + 1] == '1' }
    end
  end
  local before = record()
  local steps = {}
  for _, one in ipairs(before and rest or {}) do
    steps[#steps + 1] = correction(one[1], one[2], one[3], one[4], before) or nil
  end
  for _, step in ipairs(steps) do
    step()
  end
  if before then
    redis.call('DEL', KEYS[1])
  end
  if failed then
    error(failed, 0)
  end
  return { 'ok' }
end

return run(main)
