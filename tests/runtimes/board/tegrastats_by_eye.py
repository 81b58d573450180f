"""What a person reads in each captured line of tegrastats."""

from __future__ import annotations

from collections.abc import Mapping

from runtimes.board.tegrastats import CpuLoad


def loads(text: str) -> list[CpuLoad | None]:
    """`0@729 1@729 off 5`: processors as a person would note them."""
    cores = (word.partition("@") for word in text.split())
    return [None if head == "off" else CpuLoad(int(head), int(mhz) if mhz else None) for head, _, mhz in cores]


# In the order of the lines; what a line does not print is left out here and None there.
BY_EYE: dict[str, list[Mapping[str, object]]] = {
    "tegrastats-orin-nano-jp6.txt": [
        {
            "ram_used_mb": 6185,
            "ram_total_mb": 7620,
            "swap_used_mb": 851,
            "swap_total_mb": 3810,
            "cpu": loads("15@729 11@729 14@729 13@729 11@729 8@729"),
            "emc_percent": 43,
            "emc_mhz": 2133,
            "gpu_percent": 63,
            "gpu_mhz": 621,
            "temperatures_c": {
                "cpu": 53.968,
                "soc2": 52.437,
                "soc0": 50.75,
                "gpu": 53.343,
                "tj": 53.968,
                "soc1": 51.656,
            },
            "rails_mw": {"VDD_IN": 12479, "VDD_CPU_GPU_CV": 4667, "VDD_SOC": 2817},
        }
    ],
    "tegrastats-orin-nano-nonroot.txt": [
        {
            "ram_used_mb": 2513,
            "ram_total_mb": 7620,
            "swap_used_mb": 25,
            "swap_total_mb": 3810,
            "cpu": loads("11@729 7@729 8@729 4@729 3@729 14@729"),
            "gpu_percent": 0,
            "temperatures_c": {
                "cpu": 51.218,
                "soc2": 51.093,
                "soc0": 50.125,
                "gpu": 51.593,
                "tj": 51.718,
                "soc1": 50.343,
            },
            "rails_mw": {"VDD_IN": 4744, "VDD_CPU_GPU_CV": 1273, "VDD_SOC": 1234},
        }
    ],
    "tegrastats-orin-nano-offcore-abridged.txt": [
        {
            "ram_used_mb": 4796,
            "ram_total_mb": 7620,
            "swap_used_mb": 2509,
            "swap_total_mb": 3810,
            "cpu": loads("45@1728 off 0@729"),
            "gpu_percent": 56,
            "gpu_mhz": 1020,
            "temperatures_c": {"cpu": 50.687, "gpu": 51.281},
            "rails_mw": {"VDD_IN": 6444, "VDD_CPU_GPU_CV": 2079},
        }
    ],
    "tegrastats-agx-orin-64-jp6.txt": [
        {
            "ram_used_mb": 18207,
            "ram_total_mb": 62841,
            "swap_used_mb": 86,
            "swap_total_mb": 31420,
            "cpu": loads("14@2188 5@2112 8@2035 14@2201 46@1267 47@1267 2@1267 10@1267 4@1036 5@1036 6@1036 10@1036"),
            "emc_percent": 3,
            "emc_mhz": 2133,
            "gpu_percent": 0,
            "gpu_mhz": 0,
            "temperatures_c": {"cpu": 52.562, "soc2": 48.437, "soc0": 49.093, "tj": 52.562, "soc1": 49.656},
            "rails_mw": {"VDD_GPU_SOC": 2412, "VDD_CPU_CV": 1607, "VIN_SYS_5V0": 4707},
        }
    ],
    "tegrastats-agx-orin-64-jp5.txt": [
        {
            "ram_used_mb": 1282,
            "ram_total_mb": 62795,
            "swap_used_mb": 0,
            "swap_total_mb": 31398,
            "cpu": loads("0@729 " * 12),
            "emc_percent": 0,
            "emc_mhz": 2133,
            "gpu_percent": 0,
            "gpu_mhz": 0,
            "temperatures_c": {
                "CPU": 42.593,
                "Tboard": 32,
                "SOC2": 39.343,
                "Tdiode": 33.25,
                "SOC0": 39.375,
                "tj": 42.593,
                "SOC1": 40.468,
            },
            "rails_mw": {"VDD_GPU_SOC": 2399, "VDD_CPU_CV": 400, "VIN_SYS_5V0": 4032, "VDDQ_VDD2_1V8AO": 301},
        }
    ],
    "tegrastats-agx-orin-64-jp5.1-abridged.txt": [
        {
            "ram_used_mb": 4321,
            "ram_total_mb": 62801,
            "swap_used_mb": 19,
            "swap_total_mb": 31400,
            "cpu": loads("0@729 " * 12),
            "emc_percent": 0,
            "emc_mhz": 2133,
            "gpu_percent": 0,
            "gpu_mhz": 0,
            "temperatures_c": {
                "CPU": 44.562,
                "Tboard": 32,
                "SOC2": 40.093,
                "Tdiode": 33,
                "SOC0": 41.093,
                "tj": 44.343,
                "SOC1": 41.25,
            },
            "rails_mw": {"VDD_GPU_SOC": 2340, "VDD_CPU_CV": 390, "VIN_SYS_5V0": 4025, "VDDQ_VDD2_1V8AO": 301},
        }
    ],
    "tegrastats-agx-orin-32-jp5.txt": [
        {
            "ram_used_mb": 1205,
            "ram_total_mb": 30623,
            "swap_used_mb": 0,
            "swap_total_mb": 15311,
            "cpu": loads("0@729 0@729 1@729 0@729 0@729 0@730 0@730 0@729 0@729 0@729 0@729 0@729"),
            "emc_percent": 0,
            "emc_mhz": 204,
            "gpu_percent": 0,
            "gpu_mhz": 114,
            "temperatures_c": {
                "CPU": 43.5,
                "Tdiode": 32.5,
                "SOC2": 40.062,
                "SOC0": 40.5,
                "GPU": 38.156,
                "SOC1": 39.125,
            },
            "rails_mw": {"VDD_GPU_SOC": 4788, "VDD_CPU_CV": 798, "VIN_SYS_5V0": 3842, "VDDQ_VDD2_1V8AO": 707},
        }
    ],
    "tegrastats-agx-thor-r38.4.txt": [
        {
            "ram_used_mb": 105265,
            "ram_total_mb": 125772,
            "cpu": loads("0@972 " * 6 + "1@972 " + "0@972 " * 4 + "8@972 0@972 0@972"),
            "emc_percent": 0,
            "emc_mhz": 2750,
            "gpu_mhz": 314,
            "temperatures_c": {"cpu": 37.343, "tj": 38.875, "soc012": 37.468, "gpu": 38.875, "soc345": 37.406},
            "rails_mw": {"VDD_GPU": 1962, "VDD_CPU_SOC_MSS": 5887, "VIN_SYS_5V0": 5635, "VIN": 19780},
        }
    ],
    "tegrastats-agx-thor-r39.2-abridged.txt": [
        {
            "ram_used_mb": 8353,
            "ram_total_mb": 125749,
            "cpu": loads("90@2601 75@2601 off 7@2601"),
            "emc_percent": 34,
            "emc_mhz": 4266,
            "gpu_percent": 87,
            "gpu_mhz": 1574,
            "temperatures_c": {"cpu": 58.25, "tj": 66.625, "gpu": 56.937, "soc012": 55.375, "soc345": 55.812},
            "rails_mw": {"VDD_GPU": 37939, "VDD_CPU_SOC_MSS": 30059, "VIN_SYS_5V0": 15486, "VIN": 124486},
            "unknown": ["FUTURE_TOKEN", "value"],
        },
        {
            "ram_used_mb": 3429,
            "ram_total_mb": 125749,
            "cpu": loads("0@2601 5@2601 off"),
            "emc_mhz": 4266,
            "gpu_mhz": 1574,
            "temperatures_c": {"cpu": 49.75, "tj": 51.218, "gpu": 51.218},
            "rails_mw": {"VDD_GPU": 6330, "VIN": 28906},
        },
    ],
    "tegrastats-agx-xavier-jp4.txt": [
        {
            "ram_used_mb": 10881,
            "ram_total_mb": 31919,
            "swap_used_mb": 0,
            "swap_total_mb": 15959,
            "cpu": loads("17@1190 17@1190 18@1190 25@1190 17@1336 15@1340 23@1543 15@1574"),
            "emc_percent": 55,
            "emc_mhz": 2133,
            "gpu_percent": 95,
            "gpu_mhz": 1377,
            "temperatures_c": {
                "AO": 48,
                "GPU": 54.5,
                "Tdiode": 53.25,
                "PMIC": 100,
                "AUX": 46,
                "CPU": 49,
                "thermal": 49.45,
                "Tboard": 47,
            },
            "rails_mw": {"GPU": 18401, "CPU": 2301, "SOC": 4602, "CV": 0, "VDDRQ": 2914, "SYS5V": 4632},
        }
    ],
    "tegrastats-agx-xavier-jp5-tail-fragment.txt": [
        {
            "emc_percent": 0,
            "emc_mhz": 1331,
            "gpu_percent": 0,
            "gpu_mhz": 114,
            "temperatures_c": {
                "AUX": 36,
                "CPU": 36.5,
                "thermal": 35.7,
                "Tboard": 37,
                "AO": 35,
                "GPU": 35,
                "Tdiode": 38.75,
                "PMIC": 50,
            },
            "rails_mw": {"GPU": 467, "CPU": 467, "SOC": 1245, "CV": 0, "VDDRQ": 311, "SYS5V": 2768},
        }
    ],
    "tegrastats-tx2-jp4.txt": [
        {
            "ram_used_mb": 3276,
            "ram_total_mb": 7859,
            "swap_used_mb": 1626,
            "swap_total_mb": 12122,
            "cpu": loads("44@1421 49@2031 67@2034 17@1420 25@1419 8@1420"),
            "emc_percent": 1,
            "emc_mhz": 1866,
            "gpu_percent": 0,
            "gpu_mhz": 114,
            "temperatures_c": {
                "PLL": 42.5,
                "MCPU": 42.5,
                "PMIC": 50,
                "Tboard": 38,
                "GPU": 39.5,
                "BCPU": 42.5,
                "thermal": 41.3,
                "Tdiode": 39.25,
            },
            "rails_mw": {
                "VDD_SYS_GPU": 182,
                "VDD_SYS_SOC": 730,
                "VDD_4V0_WIFI": 0,
                "VDD_IN": 5297,
                "VDD_SYS_CPU": 1917,
                "VDD_SYS_DDR": 1241,
            },
        }
    ],
}
