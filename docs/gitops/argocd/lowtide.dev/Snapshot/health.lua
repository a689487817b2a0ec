-- The health of a Snapshot of lowtide.dev/v1alpha1, as its conditions tell it.
local health = { status = "Progressing", message = "Waiting for the operator" }

if obj.metadata.deletionTimestamp ~= nil then
  health.message = "Being deleted"
  if obj.metadata.finalizers ~= nil then
    health.message = "Being deleted, waiting for " .. table.concat(obj.metadata.finalizers, ", ")
  end
  return health
end

if obj.status == nil or obj.status.conditions == nil then
  return health
end

if obj.metadata.generation ~= nil and obj.status.observedGeneration ~= obj.metadata.generation then
  health.message = "Waiting for the operator to see the last change"
  return health
end

local found = {}
for _, condition in ipairs(obj.status.conditions) do
  found[condition.type] = condition
end

local function is(kind, status)
  return found[kind] ~= nil and found[kind].status == status
end

if is("Stalled", "True") then
  health.status = "Degraded"
  health.message = found["Stalled"].message
elseif is("Reconciling", "True") then
  health.message = found["Reconciling"].message
elseif is("Ready", "True") then
  health.status = "Healthy"
  health.message = found["Ready"].message
elseif is("Ready", "False") then
  health.status = "Degraded"
  health.message = found["Ready"].message
elseif found["Ready"] ~= nil then
  health.message = found["Ready"].message
end

return health
