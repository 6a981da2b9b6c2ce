"""The mill's five services and the manager that holds them.

Endpoints know the manager alone. Profiling is switched on for all five in one call, and
without it the services are plain objects.
"""

from __future__ import annotations

from typing import Any, Protocol

from demo_app.mill import Mill
from demo_app.services.capacity import CapacityPlanningService
from demo_app.services.forecasting import SalesForecastingService
from demo_app.services.inventory import InventoryAnalyzerService
from demo_app.services.pipeline import InventoryManagementPipelineService
from demo_app.services.requirements import YarnRequirementCalculatorService
from demo_app.sizes import Sizes

__all__ = [
    "CapacityPlanningService",
    "InventoryAnalyzerService",
    "InventoryManagementPipelineService",
    "SalesForecastingService",
    "ServiceManager",
    "YarnRequirementCalculatorService",
]


class Instruments(Protocol):
    """The part of a profiler that the manager uses."""

    def instrument(self, target: Any, /) -> Any:
        """Watches every public method of an object and returns the object."""


class ServiceManager:
    """Holds the five services.

    Args:
        mill: the tables.
        sizes: the plan's figures.
        fixed: True repairs every planted problem.
    """

    def __init__(self, mill: Mill, sizes: Sizes, fixed: bool = False) -> None:
        self.inventory = InventoryAnalyzerService(mill, sizes, fixed)
        self.forecasting = SalesForecastingService(mill, sizes, fixed)
        self.capacity = CapacityPlanningService(mill, sizes, fixed)
        self.pipeline = InventoryManagementPipelineService(mill, sizes, fixed)
        self.requirements = YarnRequirementCalculatorService(mill, sizes, fixed)

    def profile(self, perf: Instruments) -> ServiceManager:
        """Profiles all five services, in this one call."""
        for name, service in vars(self).copy().items():
            setattr(self, name, perf.instrument(service))
        return self
