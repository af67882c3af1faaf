// The system's Vulkan headers, with what llama.cpp uses of later ones.
//
// ggml-vulkan names the types of VK_EXT_layer_settings whether or not it uses them, and they came
// with Vulkan 1.3.272; Debian 12 has 1.3.239. It hands them over only where the loader offers the
// extension. The build of the engine for Vulkan (tools/gpu.sh) searches this folder before the
// system's. With later headers this file adds nothing.
#pragma once

#include_next <vulkan/vulkan.hpp>

#if VK_HEADER_VERSION < 272

#include <cstdint>
#include <vector>

namespace vk {

enum class LayerSettingTypeEXT : std::int32_t { eBool32 = 0 };

struct LayerSettingEXT {
    const char *pLayerName;
    const char *pSettingName;
    LayerSettingTypeEXT type;
    std::uint32_t valueCount;
    const void *pValues;
};

// As the driver reads it: a structure of C with its type first.
struct LayerSettingsCreateInfoEXT {
    explicit LayerSettingsCreateInfoEXT(const std::vector<LayerSettingEXT> &settings)
        : settingCount(static_cast<std::uint32_t>(settings.size())), pSettings(settings.data()) {}

    VkStructureType sType = static_cast<VkStructureType>(1000496000);
    const void *pNext = nullptr;
    std::uint32_t settingCount;
    const LayerSettingEXT *pSettings;
};

} // namespace vk

#endif
